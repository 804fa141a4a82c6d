"""A head that is solved instead of trained: logistic regression on the frozen features, along a path of penalties."""

from __future__ import annotations

import logging
import time

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from torch import Tensor, nn

from resnet_tl import timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.metrics import metrics_of
from resnet_tl.evaluation.words import metric_name, metric_value
from resnet_tl.finetuning.defaults import defaults_for
from resnet_tl.finetuning.freezing import FrozenProof, check_frozen, digest
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.networks.frozen import head_logits
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.numbers.predictions import Predictions
from resnet_tl.training.recorder import RunRecorder, best_epoch

SHOWN = ("loss", "accuracy")
log = logging.getLogger(__name__)

MOST = 10**9
"""Images times features times classes, up to which a step over all of them takes a CPU well below a second."""
PATIENCE = 3
"""Penalties in a row without a better value, after which the weaker ones, which take longest, are left out."""


def takes_steps(model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer) -> bool:
    """Whether a head for which `auto` chose to be solved is trained in steps after all, now that the images are known.

    Where it is, the model has the reason, and the Trainer the epochs.
    """
    if "model.head_solver" not in model.resolved:  # it was asked for
        return False
    why = ""
    if trainer.world_size > 1:
        why = f"it is solved by one process, and there are {trainer.world_size}"
    else:
        data.prepare_data()
        data.setup("fit")
        model.build(data)
        head, images = model.network.head, len(data.index.rows("train"))
        if not isinstance(head, nn.Linear):
            why = "the network's head is not one linear layer"
        elif images * head.weight.numel() > MOST:
            why = f"{images} images of {head.in_features} features and {head.out_features} classes are too many at once"
    if why:
        defaults = defaults_for("head")
        model.hparams["head_solver"], trainer.fit_loop.max_epochs = "optimizer", defaults.epochs
        arguments = {"lr": defaults.lr, "weight_decay": defaults.weight_decay}
        model.resolved |= {
            "model.head_solver": ("optimizer", why),
            "optimizer": ({"class_path": "torch.optim.AdamW", "init_args": arguments}, why),
            "trainer.max_epochs": (defaults.epochs, "the default of the mode head"),
        }
    return bool(why)


def solve_head(model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer, recorder: RunRecorder) -> None:
    """Gives the model the head of the penalty with the best monitored metric on the validation images.

    `trainer.max_epochs` is the number of penalties, from strong to weak; each solution is a line of `metrics.csv`.
    UserError for a setting that does not go with it.
    """
    _check(data, trainer, recorder)
    trainer.validate(model, datamodule=data, verbose=False)  # builds and places the network, and fills the cache
    recorder.begin(trainer, model)
    model.to(trainer.strategy.root_device)  # Lightning has taken it off a GPU
    model.weigh_classes()
    network, head, index = model.network, model.network.head, data.index
    if not isinstance(head, nn.Linear):
        raise UserError(
            "--model.head_solver lbfgs solves one linear layer, and the network's head is another: leave it out."
        )
    frozen = digest(network, network.frozen)
    splits = [split for split in ("train", "val") if len(index.rows(split))]
    features = {split: _features(model, data, split, frozen) for split in splits}
    labels = torch.from_numpy(index.labels[index.rows("train")]).to(model.device)
    assert model.origin is not None
    log.info(f"{network.name}, weights: {model.origin.source}; frozen: {', '.join(network.stage_names)}; head solved")
    penalties = penalty_path(trainer.max_epochs or 1)[: model.hparams["stop_after"]]
    path = solve_path(features["train"], labels, penalties, model.loss, start=(head.weight, head.bias))
    heads: list[tuple[Tensor, Tensor]] = []
    timing.phase("training")
    started = time.perf_counter()
    for epoch, (penalty, weights, biases) in enumerate(path, 1):
        heads.append((weights, biases))
        _put(head, weights, biases)
        logits = head_logits(head, features["train"])
        rows, numbers = index.rows("val"), {}
        if len(rows):
            found = Predictions(rows, index.labels[rows], head_logits(head, features["val"]).cpu().numpy())
            numbers = metrics_of(found.labels, found.probabilities) | model.metrics(found)
        recorder.add_epoch(
            {
                "epoch": epoch,
                "step": epoch,
                "phase": "head",
                "train_loss": float(model.loss(logits, labels)),
                "train_accuracy": float((logits.argmax(dim=1) == labels).float().mean()),
                **{f"val_{name}": value for name, value in numbers.items()},
                "learning_rate": 0.0,
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        started = time.perf_counter()
        shown = [f"{metric_name(f'val_{name}')} {metric_value(name, numbers[name])}" for name in SHOWN if numbers]
        log.info(f"epoch {epoch}, penalty {penalty:.2g}: {', '.join(shown) or 'solved'}")
        best = best_epoch(recorder.table, model.hparams["monitor"], model.monitor_mode) or epoch
        if epoch - best >= PATIENCE:
            break
    timing.phase("rest")
    check_frozen(network, frozen)
    recorder.finish([FrozenProof(0, "head", sorted(network.frozen), frozen)], model)
    _put(head, *heads[best - 1])


def _features(model: ImageClassifier, data: ImageDataModule, split: str, frozen: str) -> Tensor:
    """What the frozen stages give for the images of a split, (n, F) float32, in the order of the rows."""
    model.make_prefix(frozen)
    assert model.prefix is not None
    loader, rows = data.loader(split), data.index.rows(split)
    table = model.prefix.table(loader, 0)
    if table is None:  # nothing is kept of a network whose code has no file
        with timing.measure("activations"):
            return torch.cat([features for _, features in model.prefix.compute(loader, None)(rows)]).float()
    features = table[rows]
    assert isinstance(features, Tensor)
    return features.to(model.device, torch.float32)


def _put(head: nn.Linear, weights: Tensor, biases: Tensor) -> None:
    with torch.no_grad():
        head.weight.copy_(weights)
        head.bias.copy_(biases)


def _check(data: ImageDataModule, trainer: L.Trainer, recorder: RunRecorder) -> None:
    share = trainer.limit_train_batches  # 1.0 is all of them, 1 a single one
    is_short = isinstance(share, int) or share < 1 or trainer.max_steps != -1
    is_short = is_short and not trainer.fast_dev_run  # type: ignore[attr-defined]
    judges_some = trainer.limit_val_batches != 1.0 or isinstance(trainer.limit_val_batches, int)
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    of_steps = [callback for callback in callbacks if isinstance(callback, EarlyStopping | WeightAveraging)]
    for is_wrong, sentence in (
        (is_short, "takes all images at once: leave out trainer.max_steps, limit_train_batches and overfit_batches"),
        (judges_some and not trainer.fast_dev_run, "judges all images: leave out trainer.limit_val_batches"),  # type: ignore[attr-defined]
        (of_steps, f"takes no steps: leave out {listed(type(callback).__name__ for callback in of_steps)}"),
        (trainer.loggers or recorder.logs, "has nothing to log: leave out trainer.logger"),
        (
            data.sampler != "shuffled",
            "sees each image once: leave out data.sampler, or give --model.class_weights balanced",
        ),
        (
            data.augments,
            "sees one version of each image: give --data.augmentation none and leave out data.symmetry, "
            "data.random_erasing and data.transform",
        ),
        (data.test_size not in (None, data.image_size), "sees all images at one size: leave out data.test_size"),
        (trainer.world_size > 1, "runs in one process: give --trainer.devices 1"),
        (trainer.gradient_clip_val, "searches along whole gradients: leave out trainer.gradient_clip_val"),
        (trainer.accumulate_grad_batches > 1, "has all images at once: leave out trainer.accumulate_grad_batches"),
        (trainer.precision == "16-mixed", "does not compute in 16-mixed: give --trainer.precision 32-true"),
        ((trainer.max_epochs or -1) < 1, "tries one penalty in each epoch: give trainer.max_epochs, how many"),
    ):
        if is_wrong:
            raise UserError(f"--model.head_solver lbfgs {sentence}.")
