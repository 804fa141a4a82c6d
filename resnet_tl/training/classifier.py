"""The LightningModule: a staged network, the phases in which its stages train, and its exact evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchvision.transforms import v2

from resnet_tl import stopping
from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.draws import step_seed
from resnet_tl.data.samples import Batch
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.finetuning.defaults import ModeDefaults, defaults_for
from resnet_tl.finetuning.ema import EMA, AveragedWeights, choose_decay
from resnet_tl.finetuning.freezing import Freezing, digest
from resnet_tl.finetuning.loss import classification_loss
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.optimization import configure
from resnet_tl.networks import Network
from resnet_tl.networks.frozen import autocast
from resnet_tl.timing import measure
from resnet_tl.training.best_weights import BestWeights, take_place
from resnet_tl.training.building import BuiltNetwork, adapted, build, build_without_images, rebuild
from resnet_tl.training.data_choices import prepare
from resnet_tl.training.initial_head import solve_initial_head
from resnet_tl.training.logged_options import log_options
from resnet_tl.training.numbers.epoch_totals import EpochTotals
from resnet_tl.training.numbers.exact_evaluation import SAME, ExactEvaluation, diverged
from resnet_tl.training.numbers.monitor import monitor_mode
from resnet_tl.training.resuming.exact_resume import ExactResume
from resnet_tl.training.resuming.resume_points import points_of_a_plain_trainer
from resnet_tl.training.settings import check_length, check_resumed, check_with_data
from resnet_tl.training.trainer.processes import share_of, tell_of_processes
from resnet_tl.training.trainer.trainer_checks import check_steps, check_subclass, check_trainer
from resnet_tl.training.trainer.untrue_warnings import silence_untrue_warnings


class ImageClassifier(ExactEvaluation):
    """A pretrained network that is fine-tuned to new classes; `ClassifierOptions` describes the arguments.

    Subclasses may override `loss(logits, target)` and `metrics(predictions)`.
    """

    def begin(self) -> None:
        """What a classifier holds beside its options; they are set."""
        super().begin()
        self.freezing = Freezing(self.schedule)
        self.resuming = ExactResume()
        self.averages = AveragedWeights()
        self.ema: EMA | None = None
        self._has_images = False  # whether the network was built, or adapted, for those of a data module
        self.resolved: dict[str, tuple[Any, str]] = {}  # setting -> what `auto` became, and why
        self.totals: EpochTotals | None = None
        self.best: BestWeights | None = None
        self.fitted: ImageDataModule | None = None  # what it was trained on
        self._class_weights: Tensor | None = None
        self._mix: v2.Transform | None = None
        self._configured: tuple[float, int] | None = None  # the rate and batch size that optimizer and schedule are for
        if self.given_classes and self.given_network != "auto":
            self._take(build_without_images(self.given_network, self.hparams, self.given_classes))

    def configure_callbacks(self) -> list[L.Callback]:
        """What belongs to every fit, whoever makes the Trainer; and the best weights, if it keeps none of its own."""
        check_trainer(self.trainer, self)
        silence_untrue_warnings()
        own: list[L.Callback | None] = [self.freezing, self.resuming, *points_of_a_plain_trainer(self.trainer)]
        own += [self._average(), self.averages]
        if self.best not in self.trainer.checkpoint_callbacks:
            is_judged = not getattr(self.trainer.datamodule, "final", False)  # type: ignore[attr-defined]
            self.best = take_place(self.trainer, self.hparams["monitor"], self.monitor_mode) if is_judged else None
        there = self.trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in (*own, self.best) if callback and callback not in there]

    def setup(self, stage: str) -> None:
        """Refuses a subclass in which nothing would train, or nothing be frozen."""
        if stage == TrainerFn.FITTING:
            own = [self.freezing, self.resuming, self.averages, *([self.ema] if self.ema else [])]
            check_subclass(self, ImageClassifier, own)

    def _average(self) -> EMA | None:
        """What averages the weights of the fit, the same each time it is asked for."""
        if self.hparams["head_solver"] == "lbfgs":
            decay, why = None, "a head that is solved takes no steps"
        else:
            defaults, why = self.defaults()
            decay, why = choose_decay(self.hparams["ema"], (defaults.ema, why), self.trainer)
        if self.hparams["ema"] == "auto":
            self.resolved["model.ema"] = (decay, why)
        if decay != (self.ema.decay if self.ema else None):
            self.ema = EMA(decay, self.schedule) if decay else None
        return self.ema

    @property
    def monitor_mode(self) -> str:
        """Whether the monitored metric is better when it is smaller, min, or larger, max."""
        return monitor_mode(self.hparams["monitor"], self.own_metrics)

    # The network.

    def configure_model(self) -> None:
        """Builds the network for the data module's classes; Lightning calls this after the data are set up."""
        try:
            trainer = self.trainer
        except RuntimeError:  # there is none: `load_from_checkpoint` describes the network
            return
        if trainer.state.fn == TrainerFn.PREDICTING:
            self.check_built()
            if getattr(trainer, "datamodule", None):  # else its loader says in time where it comes from
                prepare(self, self.data)
        elif trainer.state.fn == TrainerFn.FITTING or getattr(trainer, "datamodule", None) or self.built is None:
            with stopping.before_training():
                self.build(self.data)
        if trainer.state.fn == TrainerFn.FITTING:  # whatever `freeze()`, `eval()` or an earlier fit have left
            self.schedule.phases[0].freeze(self.network)
            self.network.head.requires_grad_()
            self.train()

    def build(self, data: ImageDataModule) -> None:
        """Builds the network for a data set that was read, once, and gives its preprocessing to the data module.

        All of it on the CPU: Lightning calls `configure_model` under the device that trains.
        """
        with torch.device("cpu"):
            if self.built is None:
                self._take(build(self.given_network, self.hparams, self.schedule, data))
            elif self.given_classes and not self._has_images:
                self._take(adapted(self.built, self.schedule, data))
            self._has_images = True
            self._check_classes(data.classes, "the images")
            prepare(self, data)

    def defaults(self) -> tuple[ModeDefaults, str]:
        """What is taken where an option is auto, and why."""
        mode, schedule = self.hparams["mode"], self.hparams["schedule"]
        return defaults_for(mode, schedule), f"the default of {'the schedule' if schedule else f'the mode {mode}'}"

    def _take(self, built: BuiltNetwork) -> None:
        self.built, self.network = built, built.network
        self.schedule.phases[0].freeze(self.network)
        self.resolved |= built.resolved
        classes = len(built.classes)
        mixers: list[v2.Transform] = []
        if self.hparams["mixup"]:
            mixers.append(v2.MixUp(alpha=self.hparams["mixup"], num_classes=classes))
        if self.hparams["cutmix"]:
            mixers.append(v2.CutMix(alpha=self.hparams["cutmix"], num_classes=classes))
        self._mix = v2.RandomChoice(mixers) if mixers else None

    def _check_classes(self, classes: tuple[str, ...], whose: str) -> None:
        """Outputs are known by their place alone, so that other classes would give wrong names."""
        own = self.given_classes or self.classes
        if classes != own:
            way = "leave out `classes`, or give these"
            if not self.given_classes:
                way = "make a new ImageClassifier whose `weights` are this model's bundle"
            raise UserError(
                f"The classes of {whose} are {listed(classes)}, but those of the model are {listed(own)}; {way}."
            )

    # What trains.

    def configure_optimizers(self) -> Any:
        if self.hparams["head_solver"] == "lbfgs":
            raise UserError("--model.head_solver lbfgs does not train in steps: use `resnet-tl fit`.")
        if self.hparams["head_solver"] == "auto":
            self.resolved["model.head_solver"] = ("optimizer", "a Trainer takes steps")
        assert self.built is not None
        trainer = self.trainer
        if not getattr(trainer, "fast_dev_run", False):
            check_length(self.schedule, trainer.max_epochs, self.hparams["stop_after"])
        check_with_data(self)
        self._configured = (self.lr, self.data.batch_size)
        configured, chosen = configure(
            self.hparams,
            self.network,
            self.schedule,
            self.built.origin.source,
            trainer,
            self.given_optimizer,
            self.given_scheduler,
            lambda monitor: monitor_mode(monitor, self.own_metrics),
        )
        self.resolved |= chosen
        return configured

    def on_fit_start(self) -> None:
        is_new, data = self.fitted is None and not self.trainer.ckpt_path, self.data
        self.fitted = data
        if self._configured != (self.lr, data.batch_size):  # a finder, a callback, has changed them
            self.trainer.strategy.setup_optimizers(self.trainer)
        log_options(self)
        tell_of_processes(self)
        if is_new and self.hparams["head_init"] == "solved":
            solve_initial_head(self)
        data.serve(self.activations)

    def follow(self, schedule: Schedule) -> None:
        """From now on the phases are those of another schedule, also for what freezes and what averages by them."""
        self.schedule = self.freezing.schedule = schedule
        if self.ema:
            self.ema.schedule = schedule

    def weigh_classes(self) -> None:
        """Balances the loss, where that is asked for, by the training images of the data module."""
        if self.hparams["class_weights"] == "balanced":
            index = self.data.index
            counts = np.bincount(index.labels[index.rows("train")], minlength=len(self.classes))
            self._class_weights = torch.from_numpy(counts.sum() / (len(counts) * counts)).float().to(self.device)

    def on_train_start(self) -> None:
        self.prefix = None  # that of a sanity check did not know how long it would be frozen
        self.weigh_classes()
        if self.is_tried:
            check_steps(self.trainer)

    def on_train_epoch_start(self) -> None:
        """The callback has frozen what this epoch freezes."""
        frozen = self.freezing.digest  # none in a finder's trial
        if not frozen or self.network.norms_only:
            frozen = digest(self.network, self.network.frozen)
        size = self.data.train_size(self.current_epoch)
        if self.prefix is None or (self.prefix.digest, self.prefix.train_size) != (frozen, size):
            self.make_prefix(frozen)
        self.numbers.pop("val", None)  # an epoch without validation has no numbers, not those of another one
        self.totals = EpochTotals(self.device)
        resumed = self.resuming.position
        if (kept := self.resuming.totals(self.global_rank)) and resumed:
            self.totals.go_on(kept)
            if resumed.batch == self.trainer.num_training_batches:
                self._log_means()

    # A step.

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and mixup draw from a generator that depends on (seed, step, rank) alone."""
        step = self.current_epoch * 1_000_000 + batch_idx
        torch.manual_seed(step_seed(self.hparams["seed"], step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """`loss`, a number, and for callbacks `logits` (N, classes) and `target`, as `loss` takes it."""
        target = batch["label"]
        if self.prefix is None or self._mix is not None:
            x: Any = self.images(batch)
            if self._mix is not None:
                x, target = self._mix(x, target)
            if self.prefix is not None:
                with measure("activations"):
                    x = self.prefix.stages(x)
        else:
            x = self.prefix(batch)
        features = self.network.forward_stages(x, start=len(self.network.frozen))
        with autocast(features.device.type):  # float32, whatever the stages compute in
            logits = self.network.head(features.float())
        loss = self.loss(logits, target)
        if self.totals is None:
            raise UserError(
                "training_step belongs to a fit of a Trainer; a loop of your own computes "
                'model.loss(model(batch["image"]), batch["label"]).'
            )
        self.totals.add(loss, logits, batch["label"])
        size = len(batch["row"])
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (batch_idx + 1) % every == 0:
            self.log("train_loss_step", loss.detach(), prog_bar=True, batch_size=size)
        weight = self._class_weights
        if self.trainer.world_size > 1 and (weight is not None or self.trainer.is_last_batch):
            is_weighted = weight is not None and target.ndim == 1
            loss = loss * share_of(weight[target].sum() if is_weighted else logits.new_tensor(size))  # type: ignore[index]
        return {"loss": loss, "logits": logits.detach(), "target": target}

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch, a number; a subclass may compute another one.

        Args:
            logits: (N, classes) float32.
            target: class numbers (N,), or probabilities (N, classes) where mixup or CutMix mix images.
        """
        if self.criterion is not None:
            return self.criterion(logits, target)
        smoothing, gamma = self.hparams["label_smoothing"], self.hparams["focal_gamma"]
        return classification_loss(logits, target, self._class_weights, smoothing, gamma)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch or self.trainer.fit_loop.epoch_loop.done:
            self._log_means()

    def on_train_epoch_end(self) -> None:
        """Lightning asks at the end of each epoch alone whether it is to stop."""
        if self.current_epoch + 1 == self.hparams["stop_after"] and not self.is_tried:
            self.trainer.should_stop = True

    def _log_means(self) -> None:
        """The epoch's means; what is logged in each step would cost as much as a step of a small head."""
        assert self.totals is not None
        means = self.totals.means(self.trainer)
        if means is None:
            return
        loss, accuracy = means
        if not loss.isfinite() and not self.is_tried:
            raise diverged(self.current_epoch)
        self.log_dict({"train_loss": loss, "train_accuracy": accuracy}, on_step=False, on_epoch=True, **SAME)

    # Keeping it.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.built is not None
        if "callbacks" not in checkpoint:
            self.averages.put(self.trainer, self, checkpoint)
        resolved = {setting: value for setting, (value, _) in self.resolved.items()}
        checkpoint["resnet_tl"] = checkpoint.get("resnet_tl", {}) | self.built.to_dict() | {"resolved": resolved}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint describes its network: neither the data nor a weights file are needed.

        The code of a stranger, which it may name, is not run: a network of the user's own must be given as an object.
        """
        own = self.given_network
        self.restore(checkpoint["resnet_tl"], None if isinstance(own, str | Mapping) else own)
        if self._trainer and self._trainer.state.fn == TrainerFn.FITTING:
            self.resuming.read(checkpoint["resnet_tl"])
            resolved = checkpoint["resnet_tl"]["resolved"]
            check_resumed(self.hparams, checkpoint["hyper_parameters"], resolved)
            prepare(self, self.data, resolved.get("data.symmetry", "mirror"))  # as all fits did that kept none

    def restore(self, saved: dict[str, Any], own: Network | None = None) -> None:
        """Builds what `checkpoint["resnet_tl"]` describes, unless it is built; what it only names is `own`."""
        if self.built is None:
            network, name = self.hparams["network"], saved["network"]["name"]
            if isinstance(network, str) and network not in ("auto", name):
                raise UserError(f"The checkpoint holds a {name}, not a {network}: leave out model.network.")
            self._take(rebuild(saved, self.hparams["seed"], own))
        self._check_classes(tuple(saved["classes"]), "the checkpoint")

    def save(
        self,
        folder: str | Path,
        judged: Mapping[str, np.ndarray] | None = None,
        known: Reference | None = None,
        **facts: Any,
    ) -> Bundle:
        """Writes the model bundle; `facts` are further fields of it, by default what a fit on these images gave.

        `judged` is what is kept of its validation images, as `bundle.write_bundle` takes it. With `known` the model can
        say of an image how familiar it looks.
        """
        self.check_built()
        assert self.built is not None
        if not facts and self.fitted is not None and self.fitted is self.trainer.datamodule:  # type: ignore[attr-defined]
            precision = str(self.trainer.precision)
            facts = {"precision": precision, "metrics": self.numbers, "data": self.fitted.facts()}
        bundle = Bundle(
            path=Path(folder),
            network=self.network.description,
            classes=self.classes,
            preprocessing=self.built.preprocessing,
            weights=asdict(self.built.origin),
            reference={"neighbours": known.neighbours} if known else {},
            **facts,
        )
        return write_bundle(bundle, self.network, judged, known.arrays if known else None)

    def teardown(self, stage: str) -> None:
        """The data module gives images again, and the memory of tables and copies is free."""
        if getattr(self.trainer, "datamodule", None) or self.trainer.state.fn != TrainerFn.FITTING:
            self.data.serve(None)
        self.prefix = self._suffix = None
