"""The LightningModule: a staged network, the phases in which its stages train, and its exact evaluation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.draws import step_seed
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.pixels.colour import adjust_colour
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.samples import Batch
from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import prediction_table
from resnet_tl.finetuning.activation_cache import ActivationCacheMode, ActivationTable
from resnet_tl.finetuning.convex_head import lbfgs, penalty_at, ridge
from resnet_tl.finetuning.defaults import defaults_for
from resnet_tl.finetuning.loss import classification_loss
from resnet_tl.finetuning.modes import FrozenProof, Mode, Phase, Schedule, check_frozen, digest
from resnet_tl.finetuning.optimization import make_optimizer, make_scheduler, make_warmup_cosine
from resnet_tl.finetuning.prefix import FrozenPrefix
from resnet_tl.networks import create_network
from resnet_tl.networks.cost import StageCost, stage_costs
from resnet_tl.networks.frozen import FrozenStages, compute_type, head_logits
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import WeightsOrigin, load_weights
from resnet_tl.timing import measure
from resnet_tl.training.choices import choose_backbone_lr_factor, choose_network, choose_preprocessing
from resnet_tl.training.processes import share_of, tell_of_processes
from resnet_tl.training.resuming.position import Position
from resnet_tl.training.row_logits import RowLogits
from resnet_tl.training.settings import HeadSolver, check_length, check_settings, check_with_data

log = logging.getLogger(__name__)


class ImageClassifier(L.LightningModule):
    """A pretrained network that is fine-tuned to new classes.

    Args:
        network: auto (resnet20 for images up to 64 pixels, resnet18 for photos), a name from `resnet-tl networks list`,
            or another chain of stages among timm's networks.
        network_args: further arguments of the network, such as {shortcut: projection} for a CIFAR ResNet or
            {drop_path_rate: 0.1} for one of timm's.
        weights: default (ImageNet for a timm network, built in for resnet20), none, a timm tag such as a1_in1k,
            hf-hub:OWNER/NAME, a .safetensors or .pth file, or a run or bundle to start from.
        mode: all trains everything, last_stages the last stages and the head, head a new head alone.
        trainable_stages: how many stages train in the mode last_stages.
        schedule: phases one after another, such as [{mode: head, epochs: 3}, {mode: all, lr: 0.0003}];
            overrides `mode`.
        head_hidden: widths of hidden layers in the new head; none make it linear.
        head_dropout: dropout probability in the head, 0 to 1.
        head_solver: optimizer trains the head in steps; lbfgs, in mode head, solves a linear head to its optimum on all
            images at once, in each epoch with a weaker penalty on the weights; the best epoch chooses the penalty.
        backbone_lr_factor: the backbone learns at the head's rate times this; default: 0.1 for pretrained weights,
            1 without.
        layer_decay: each stage learns at this factor of the rate of the stage above it.
        warmup: share of each phase's steps in which the learning rate rises; the cosine follows.
        label_smoothing: 0 to 1 (Szegedy et al. 2016, arXiv 1512.00567).
        focal_gamma: the focal loss's gamma, 0 for plain cross-entropy; 2 is usual (Lin et al. 2017, arXiv 1708.02002).
        mixup: alpha of mixup, 0 for none (Zhang et al. 2018, arXiv 1710.09412).
        cutmix: alpha of CutMix, 0 for none (Yun et al. 2019, arXiv 1905.04899).
        class_weights: balanced weighs the loss of a class by the inverse of its frequency.
        monitor: the metric of the best checkpoint: val_loss, val_accuracy, val_balanced_accuracy, val_macro_f1,
            val_auroc.
        activation_cache: keep what the frozen stages give for each image and view instead of computing it in every
            epoch: auto where it pays (it says so), on, off. The results are the same.
        optimizer: {class_path, init_args} of a torch optimizer; default: AdamW with the mode's learning rate.
        lr_scheduler: {class_path, init_args} of a torch scheduler; default: warm-up and cosine.
        seed: of the new head, dropout and mixup.
    """

    def __init__(
        self,
        network: str = "auto",
        network_args: dict[str, Any] | None = None,
        weights: str = "default",
        mode: Mode = "all",
        trainable_stages: int = 1,
        schedule: list[Phase] | None = None,
        head_hidden: list[int] | None = None,
        head_dropout: float = 0.0,
        head_solver: HeadSolver = "optimizer",
        backbone_lr_factor: float | None = None,
        layer_decay: float = 1.0,
        warmup: float = 0.05,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        class_weights: Literal["equal", "balanced"] = "equal",
        monitor: str = "val_loss",
        activation_cache: ActivationCacheMode | bool = "auto",
        optimizer: dict | None = None,
        lr_scheduler: dict | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(activation_cache, bool):  # YAML reads a bare on or off so
            activation_cache = "on" if activation_cache else "off"
        phases = [Phase(**phase) if isinstance(phase, dict) else phase for phase in schedule or []]
        # A checkpoint is read without unpickling classes, so that it may hold only plain values.
        schedule = [asdict(phase) for phase in phases] or None  # type: ignore[misc]
        self.save_hyperparameters()
        self.schedule = Schedule(tuple(phases) if phases else (Phase(mode, None, trainable_stages),))
        self.lr_scheduler = lr_scheduler  # Lightning drops what cannot be pickled, such as a lambda, from hparams
        self.network: StagedNetwork | None = None
        self.classes: tuple[str, ...] = ()
        self.preprocessing: Preprocessing | None = None
        self.origin: WeightsOrigin | None = None
        self._planned_for: int | None = None  # the images' short side; None once the network is trained or loaded
        self.architecture: dict[str, Any] = {}
        self.costs: list[StageCost] = []  # of each stage and the head, for one image
        self.resolved: dict[str, tuple[Any, str]] = {}  # setting -> what `auto` became, and why
        self.predictions: dict[str, pd.DataFrame] = {}  # split -> the newest prediction table
        self.metrics: dict[str, dict[str, float]] = {}  # split -> its numbers, in double precision
        self.images_per_second: dict[str, float] = {}  # split -> from file to logits, over all processes
        self.phase: int | None = None
        self.prefix: FrozenPrefix | None = None  # the frozen stages; plain attributes, so that no checkpoint holds them
        self._suffix: FrozenStages | None = None  # the stages behind it as they are evaluated
        self.proofs: list[FrozenProof] = []  # of each phase so far
        self.stands_at: Position | None = None  # what a checkpoint that is being saved is to say; set by ResumePoints
        self.resumes_at: Position | None = None  # until the epoch begins in which a checkpoint was saved
        self._resumed: dict[str, Any] = {}  # what the checkpoint says of that epoch
        self._frozen_digest = ""
        self._frozen_when_wrapped: frozenset[str] = frozenset()
        self._feature_variance: Tensor | None = None  # for the penalty of a head that is solved
        self._totals: Tensor | None = None  # of the epoch so far: loss times images, right answers, images
        self._outputs = RowLogits()
        self._loss_weights: Tensor | None = None
        self._mix: v2.Transform | None = None
        check_settings(self.hparams, self.schedule, self.lr_scheduler)

    @property
    def _solves_head(self) -> bool:
        return self.hparams["head_solver"] == "lbfgs"

    # The network.

    def configure_model(self) -> None:
        """Builds the network for the data module's classes; Lightning calls this after the data are set up."""
        if self._trainer is None:
            return
        data = self._data
        data.serve(None)  # also after a fit that ended in an error
        with torch.device("cpu"):
            data.use(self.plan_preprocessing(data))
        self._check_classes(data.classes, "the images")

    def plan_preprocessing(self, data: ImageDataModule) -> Preprocessing:
        """Builds the network with its weights as soon as the classes and sizes of the images are known."""
        if self.preprocessing is not None and self._planned_for in (None, data.short_side):
            return self.preprocessing
        self._planned_for = data.short_side
        name, why = choose_network(self.hparams["network"], data.short_side)
        if self.hparams["network"] == "auto":
            self.resolved["model.network"] = (name, why)
        self._build(
            name=name,
            classes=data.classes,
            in_chans=data.channels,
            head_hidden=list(self.hparams["head_hidden"] or []),
            head_dropout=self.hparams["head_dropout"],
            network_args=dict(self.hparams["network_args"] or {}),
        )
        assert self.network is not None
        self.origin = load_weights(self.network, self.hparams["weights"], classes=data.classes)
        self.preprocessing, choices = choose_preprocessing(data, self.origin)
        self.resolved.update(choices)
        self.costs = stage_costs(self.network, self.preprocessing.size)  # refuses images that are too small for it
        self.network.freeze(self._frozen_at(0))
        return self.preprocessing

    @property
    def _data(self) -> ImageDataModule:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule):
            raise UserError("ImageClassifier needs an ImageDataModule: trainer.fit(model, datamodule=data).")
        return data

    def _check_classes(self, classes: Sequence[str], whose: str) -> None:
        """Outputs are told apart by their place alone, so that other classes would give wrong names."""
        if tuple(classes) != self.classes:
            raise UserError(
                f"The classes of {whose} are {', '.join(classes)}, but those of the model are "
                f"{', '.join(self.classes)}; make a new ImageClassifier whose `weights` are this model's bundle."
            )

    def _build(self, *, name: str, classes: Sequence[str], **options: Any) -> None:
        self.classes = tuple(classes)
        self.architecture = {"name": name, **options}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.hparams["seed"])
            self.network = create_network(**self.architecture, num_classes=len(classes))
        self.network.to(memory_format=torch.channels_last)
        mixers: list[v2.Transform] = []
        if self.hparams["mixup"]:
            mixers.append(v2.MixUp(alpha=self.hparams["mixup"], num_classes=len(classes)))
        if self.hparams["cutmix"]:
            mixers.append(v2.CutMix(alpha=self.hparams["cutmix"], num_classes=len(classes)))
        self._mix = v2.RandomChoice(mixers) if mixers else None

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) uint8 to logits (N, classes)."""
        assert self.network is not None
        assert self.preprocessing is not None
        return self.network(self.preprocessing.normalise(images))

    @property
    def _known_preprocessing(self) -> Preprocessing:
        assert self.preprocessing is not None
        return self.preprocessing

    def _images(self, batch: Batch) -> Tensor:
        """The network's input (N, C, H, W)."""
        images = batch["image"]
        if "colour" in batch:
            images = adjust_colour(images, batch["colour"])
        return self._known_preprocessing.normalise(images)

    # What trains.

    def on_fit_start(self) -> None:
        """Begins anew, also when this model was loaded or fitted before; DDP has just wrapped it."""
        assert self.network is not None
        data = self._data
        self.phase, self.prefix, self._frozen_digest, self._planned_for = None, None, "", None
        self._frozen_when_wrapped = self.network.frozen
        if not self.trainer.ckpt_path:  # what was loaded before is not what this fit begins with
            self.resumes_at, self._resumed, self.proofs = None, {}, []
        self.check_unchanged(data, self.trainer.world_size)
        draws = bool(self.hparams["head_dropout"] or self.hparams["mixup"] or self.hparams["cutmix"])
        tell_of_processes(self.trainer, data.batch_size, self.network, self.schedule, draws)
        data.serve(self._activations)
        if self.hparams["class_weights"] == "balanced":
            index = data.index
            assert index is not None
            counts = np.bincount(index.labels[index.rows("train")], minlength=len(self.classes))
            self._loss_weights = torch.from_numpy(counts.sum() / (len(counts) * counts)).float()

    def _frozen_at(self, epoch: int) -> tuple[str, ...]:
        assert self.network is not None
        return self.schedule.phases[self.schedule.phase_at(epoch)].frozen_stages(self.network.stage_names)

    def on_train_epoch_start(self) -> None:
        """Derives what is frozen from the epoch alone, so that it is the same after a resume."""
        assert self.network is not None
        phase = self.schedule.phase_at(self.current_epoch)
        if phase != self.phase:
            self.prove_frozen()
            self.phase = phase
        self.network.freeze(self._frozen_at(self.current_epoch))
        if self.network.frozen != self._frozen_when_wrapped:
            self._wrap_again()
        if not self._frozen_digest:  # after wrapping, which gives every rank the buffers of rank 0
            self._frozen_digest = self._resumed.get("frozen_digest") or digest(self.network, self.network.frozen)
            if self._resumed.get("frozen_digest"):
                check_frozen(self.network, self._frozen_digest)
            self._make_prefix(self._frozen_digest)
        self._totals = torch.zeros(3, dtype=torch.float64 if self.device.type != "mps" else None, device=self.device)
        self.metrics.pop("val", None)  # an epoch without validation has no numbers, not those of another one
        if self.resumes_at:
            self._go_on_at(self.resumes_at)

    def _go_on_at(self, position: Position) -> None:
        """The rest of an epoch of which a part was done before the checkpoint."""
        assert self._totals is not None
        position.begin(self.trainer)
        log.info(f"Going on in epoch {position.epoch + 1} after {position.batch} of its batches")
        if position.batch:
            self._totals += self._totals.new_tensor(self._resumed["totals"][self.global_rank])
        if position.batch == self.trainer.num_training_batches:
            self._log_means()
        self.resumes_at, self._resumed = None, {}

    def on_train_epoch_end(self) -> None:
        if self.current_epoch + 1 in self.schedule.starts():
            self.prove_frozen()

    def on_train_end(self) -> None:
        self.prove_frozen()

    def _make_prefix(self, frozen_digest: str) -> None:
        """What is frozen now, as it computes; none where all trains."""
        assert self.network is not None
        self.prefix = None
        if self.network.frozen:
            stages = FrozenStages(self.network, stop=len(self.network.frozen), dtype=self._compute_type)
            self.prefix = FrozenPrefix(
                stages,
                frozen_digest,
                {key: value for key, value in self.architecture.items() if not key.startswith("head_")},
                self._known_preprocessing,
                self._images,
                self._data,
                self.trainer,
                mode="on" if self._solves_head else self.hparams["activation_cache"],
                epochs=self._epochs() if self.trainer.training else 0,
                is_mixed=self._mix is not None,
            )

    def _epochs(self) -> int:
        """How many epochs the present phase lasts."""
        ends = [start for start in self.schedule.starts() if start > self.current_epoch]
        end = ends[0] if ends else self.trainer.max_epochs or -1
        if end < 0:  # the fit counts steps
            steps = max(1, self.trainer.max_steps) * self.trainer.accumulate_grad_batches
            end = self.current_epoch + math.ceil(steps / self.trainer.num_training_batches)
        return end - self.current_epoch

    @property
    def _compute_type(self) -> torch.dtype:
        return compute_type(str(self.trainer.precision), self.device.type)

    def _activations(self, loader: ImageLoader, view: int) -> ActivationTable | None:
        return self.prefix.table(loader, view) if self.prefix else None

    def teardown(self, stage: str) -> None:
        """The data module gives images again, and the memory of tables and copies is free."""
        self._data.serve(None)
        self.prefix = self._suffix = None

    def prove_frozen(self) -> None:
        """Ends a phase with the proof that its frozen stages are those that it began with."""
        if self._frozen_digest:
            assert self.network is not None
            assert self.phase is not None
            check_frozen(self.network, self._frozen_digest)
            self.proofs.append(
                FrozenProof(
                    self.phase, str(self.schedule.phases[self.phase]), sorted(self.network.frozen), self._frozen_digest
                )
            )
        self._frozen_digest = ""

    def _wrap_again(self) -> None:
        """DDP synchronises only what needed a gradient when it wrapped the module: wrap it anew on every rank."""
        assert self.network is not None
        self._frozen_when_wrapped = self.network.frozen
        strategy = self.trainer.strategy
        if isinstance(strategy.model, DistributedDataParallel):
            strategy.model = None  # its reducer takes its hooks along
            strategy.model = strategy._setup_model(self)
            strategy._register_ddp_hooks()  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        assert self.network is not None
        assert self.origin is not None
        if not getattr(self.trainer, "fast_dev_run", False):
            check_length(self.schedule, self.trainer.max_epochs)
        check_with_data(self.hparams, self.schedule, self._data, self.trainer)
        if self._solves_head:
            assert isinstance(self.network.head, nn.Linear)
            return lbfgs(self.network.head)
        defaults = defaults_for(self.hparams["mode"], self.hparams["schedule"])
        factor = self.hparams["backbone_lr_factor"]
        if factor is None:
            factor, why = choose_backbone_lr_factor(defaults, self.origin)
            self.resolved["model.backbone_lr_factor"] = (factor, why)
        optimizer, lr = make_optimizer(
            self.hparams["optimizer"],
            defaults,
            self.network,
            self.schedule,
            factor,
            self.hparams["layer_decay"],
            clips=bool(self.trainer.gradient_clip_val),
        )
        if self.lr_scheduler:
            scheduler = make_scheduler(self.lr_scheduler, optimizer, lr, self.hparams["monitor"], self.trainer)
        else:
            scheduler = make_warmup_cosine(optimizer, lr, self.schedule, self.hparams["warmup"], self.trainer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    # A step.

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and mixup draw from a generator that depends on (seed, step, rank) alone."""
        step = self.current_epoch * 1_000_000 + batch_idx
        torch.manual_seed(step_seed(self.hparams["seed"], step, self.global_rank))
        if self._solves_head:
            self._feature_variance = batch["activation"].float().var(dim=0).mean()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.network is not None
        target = batch["label"]
        if self.prefix is None or self._mix is not None:
            x: Any = self._images(batch)
            if self._mix is not None:
                x, target = self._mix(x, target)
            if self.prefix is not None:
                with measure("activations"):
                    x = self.prefix.stages(x)
        else:
            x = self.prefix(batch)
        logits = self._head(self.network.forward_stages(x, start=len(self.network.frozen)))
        weight = None if self._loss_weights is None else self._loss_weights.to(logits.device)
        loss = classification_loss(logits, target, weight, self.hparams["label_smoothing"], self.hparams["focal_gamma"])
        size = len(batch["row"])
        with torch.no_grad():
            right = (logits.argmax(dim=1) == batch["label"]).sum()
            assert self._totals is not None
            if self._solves_head:  # which tries many weights in one step: the last ones count
                self._totals.zero_()
            self._totals += torch.stack([loss * size, right, right.new_tensor(size)]).to(self._totals)
        if (batch_idx + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train_loss_step", loss.detach(), prog_bar=True, batch_size=size)
        if self._solves_head:
            penalty = penalty_at(self.current_epoch, self.trainer.max_epochs or 1)
            assert isinstance(self.network.head, nn.Linear)
            assert self._feature_variance is not None
            return loss + ridge(self.network.head, self._feature_variance, penalty)
        if self.trainer.world_size > 1 and (weight is not None or self.trainer.is_last_batch):
            is_weighted = weight is not None and target.ndim == 1
            loss = loss * share_of(weight[target].sum() if is_weighted else logits.new_tensor(size))  # type: ignore[index]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch or self.trainer.fit_loop.epoch_loop.done:
            self._log_means()

    def _log_means(self) -> None:
        """The epoch's means; what is logged in each step would cost as much as a step of a small head."""
        assert self._totals is not None
        totals = self.trainer.strategy.reduce(self._totals.clone(), reduce_op="sum")
        loss, right = (totals[:2] / totals[2]).float()
        if not loss.isfinite():
            raise _diverged(self.current_epoch)
        self.log_dict({"train_loss": loss, "train_accuracy": right}, on_step=False, on_epoch=True, batch_size=1)

    def _head(self, features: Tensor) -> Tensor:
        """Logits (N, classes) in float32, whatever type the stages compute in."""
        assert self.network is not None
        with torch.autocast(features.device.type, enabled=False):
            return self.network.head(features.float())

    # Evaluation: exact, on the gathered table.

    def on_validation_epoch_start(self) -> None:
        assert self.network is not None
        if self.prefix is None or self.trainer.state.fn != TrainerFn.FITTING:
            self._data.serve(self._activations)
            self._make_prefix(digest(self.network, self.network.frozen))
        if self.trainer.world_size > 1:  # each rank's BatchNorm has seen its own images; the bundle has those of rank 0
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        # The stages that train as the bundle will compute them.
        self._suffix = FrozenStages(self.network, len(self.network.frozen), dtype=self._compute_type)
        self._outputs = RowLogits(len(self.classes))  # an interrupted evaluation may have left some
        self._evaluation_started = time.perf_counter()

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def _evaluation_step(self, batch: Batch) -> None:
        if len(batch["row"]):
            assert self._suffix is not None
            features = self._suffix(self._images(batch) if self.prefix is None else self.prefix(batch))
            assert isinstance(features, Tensor)
            assert self.network is not None
            self._outputs.add(batch["row"], head_logits(self.network.head, features))

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def _finish_evaluation(self, split: str) -> None:
        rows, logits = self._outputs.gathered(self.trainer.world_size)
        if self.trainer.sanity_checking:
            return
        if not np.isfinite(logits).all():
            raise _diverged(self.current_epoch)
        self.images_per_second[split] = len(rows) / (time.perf_counter() - self._evaluation_started)
        index = self._data.index
        assert index is not None
        table = prediction_table(
            ids=[index.id(row) for row in rows],
            paths=[str(index.path(row)) for row in rows],
            labels=index.labels[rows],
            logits=logits,
            classes=self.classes,
        )
        self.predictions[split] = table
        # Every rank computes them from the same table, so that they are equal without a reduction.
        self.metrics[split] = compute_metrics(table)
        self.log_dict({f"{split}_{name}": value for name, value in self.metrics[split].items()}, sync_dist=False)

    # Keeping it.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.preprocessing is not None
        checkpoint["resnet_tl"] = {
            "network": self.architecture,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "weights": asdict(self.origin) if self.origin else None,
        }
        if self.stands_at:
            self.stands_at.write(checkpoint["loops"]["fit_loop"])
            checkpoint["resnet_tl"] |= {
                "position": asdict(self.stands_at),
                "processes": self.trainer.world_size,
                "data": self._data.identity(),
                "totals": self._totals_of_ranks(),
                "frozen_digest": self._frozen_digest,
                "proofs": [asdict(proof) for proof in self.proofs],
            }

    def _totals_of_ranks(self) -> list[list[float]]:
        assert self._totals is not None
        totals: list[Any] = [self._totals.tolist()]
        if self.trainer.world_size > 1:
            totals = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(totals, self._totals.tolist())
        return totals

    def check_unchanged(self, data: ImageDataModule, processes: int) -> None:
        """Raises UserError when a fit is resumed with other images or in other batches."""
        if self.resumes_at is None:
            return
        if self._resumed["data"] != data.identity():
            raise UserError(
                f"The images in {data.root}, their classes or splits are not those that the run began with, so that it "
                "cannot go on; put them back, or start a new run."
            )
        began = self._resumed["processes"]
        if began != processes:
            raise UserError(
                f"The run was begun by {began} process{'es' if began > 1 else ''}, and {processes} would learn in "
                f"other batches; go on with --trainer.devices {began}, or as many machines as before."
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint describes its network: neither the data nor a weights file are needed."""
        saved = checkpoint["resnet_tl"]
        if "position" in saved:
            self.resumes_at, self._resumed = Position(**saved["position"]), saved
            self.proofs = [FrozenProof(**proof) for proof in saved["proofs"]]
        if self.network is not None:
            self._check_classes(saved["classes"], "the checkpoint")
            return
        self._build(classes=saved["classes"], **saved["network"])
        self.preprocessing = Preprocessing.from_dict(saved["preprocessing"])
        self.origin = WeightsOrigin(**saved["weights"]) if saved["weights"] else None

    def save(self, folder: str | Path, **facts: Any) -> Bundle:
        """Writes the model bundle; `facts` are further fields of it, such as metrics and data."""
        if self.network is None or self.preprocessing is None:
            raise RuntimeError("There is nothing to save before the model was fitted or loaded.")
        bundle = Bundle(
            path=Path(folder),
            network=self.architecture,
            classes=self.classes,
            preprocessing=self.preprocessing,
            weights=asdict(self.origin) if self.origin else {},
            **facts,
        )
        return write_bundle(bundle, self.network)


def _diverged(epoch: int) -> UserError:
    return UserError(
        f"The training has diverged in epoch {epoch + 1}: loss or outputs are no finite numbers; take a smaller "
        "learning rate, such as a tenth of this one (--optimizer.lr), or --trainer.gradient_clip_val 1."
    )
