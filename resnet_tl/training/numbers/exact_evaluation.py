"""Exact evaluation: each image once, on however many processes, and every number from the gathered predictions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.functional import cross_entropy

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.pixels.colour import adjust_colour
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.samples import Batch
from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import metrics_of
from resnet_tl.finetuning.activation_cache import ActivationTable
from resnet_tl.finetuning.freezing import Freezing, digest
from resnet_tl.finetuning.prefix import FrozenPrefix
from resnet_tl.networks.frozen import FrozenStages, compute_type, head_logits
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import WeightsOrigin
from resnet_tl.training.built_later import BuiltLater
from resnet_tl.training.numbers import metrics as torchmetrics
from resnet_tl.training.numbers.predictions import Predictions, RowLogits
from resnet_tl.training.pixel_values import normalised

SAME: dict[str, Any] = {"batch_size": 1, "sync_dist": True, "reduce_fx": "max"}
"""For numbers that all processes have alike: the largest of them is each of them, whereas a mean may be rounded."""


class ExactEvaluation(BuiltLater):
    """The part of ImageClassifier that computes and evaluates, as the bundle will: by copies for inference."""

    network: StagedNetwork
    freezing: Freezing
    prefix: FrozenPrefix | None  # the frozen stages; a plain attribute, so that no checkpoint holds them
    _suffix: FrozenStages | None = None  # the stages behind it
    _keeps_features = False

    def begin(self) -> None:
        self.predictions: dict[str, Predictions] = {}  # split -> the newest ones, on the first process
        self.numbers: dict[str, dict[str, float]] = {}  # split -> what was computed from them, on all processes
        self.images_per_second: dict[str, float] = {}  # split -> from file to logits, over all processes
        self.prefix = None
        self._outputs = RowLogits(0)

    @contextmanager
    def keeping_features(self, is_wanted: bool = True) -> Iterator[None]:
        """Evaluations within it also keep what the head is given, in their `predictions`."""
        self._keeps_features = is_wanted
        try:
            yield
        finally:
            self._keeps_features = False

    @property
    def data(self) -> ImageDataModule:
        """The data module of the Trainer, or that of the loader it was given; UserError where there is none."""
        trainer = self.trainer
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, ImageDataModule):
            return data
        given = {"validate": "val_dataloaders", "test": "test_dataloaders", "predict": "predict_dataloaders"}
        found: Any = None if data or trainer.state.fn not in given else getattr(trainer, given[trainer.state.fn])
        # Several loaders' predictions come one after another; their numbers would be mixed.
        loaders = found if isinstance(found, list) and trainer.predicting else [found]
        if self.built is not None and all(isinstance(loader, ImageLoader) for loader in loaders):
            if any(loader.samples.preprocessing != self.built.preprocessing for loader in loaders):
                raise UserError("The loader's images are prepared for another network: give datamodule=data itself.")
            return loaders[0].data
        raise UserError(
            "ImageClassifier needs an ImageDataModule, which knows how the network's images are prepared: "
            "trainer.fit(model, datamodule=ImageDataModule(folder)), and likewise validate, test and predict, which "
            "take one of its loaders too."
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the outputs; none before the network is built."""
        return self.built.classes if self.built else ()

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self.built.preprocessing if self.built else None

    @property
    def origin(self) -> WeightsOrigin | None:
        """Of the weights that training began with."""
        return self.built.origin if self.built else None

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8 up to 255 or floats from 0 to 1, to logits (N, classes); UserError for others."""
        self.check_built()
        assert self.built is not None
        return self.network(normalised(images, self.built.preprocessing))

    def images(self, batch: Batch) -> Tensor:
        """The network's input (N, C, H, W)."""
        images = batch["image"]
        if "colour" in batch:
            images = adjust_colour(images, batch["colour"])
        assert self.built is not None
        return self.built.preprocessing.normalise(images)

    def make_prefix(self, frozen_digest: str) -> None:
        """What is frozen now, as it computes; none where all trains."""
        self.prefix = None
        if self.network.frozen:
            assert self.built is not None
            self.prefix = FrozenPrefix(
                FrozenStages(self.network, stop=len(self.network.frozen), dtype=self.compute_type),
                frozen_digest,
                self.built.preprocessing,
                self.data.train_size(self.current_epoch),
                self.images,
                self.data,
                self.trainer,
                mode="on" if self.hparams["head_solver"] == "lbfgs" else self.hparams["activation_cache"],
                epochs=self.schedule.epochs_left(self.trainer) if self.trainer.training else 0,
                is_mixed=bool(self.hparams["mixup"] or self.hparams["cutmix"]),
            )

    @property
    def compute_type(self) -> torch.dtype:
        """In which the stages compute."""
        return compute_type(str(self.trainer.precision), self.device.type)

    @property
    def is_tried(self) -> bool:
        """Whether a finder runs these steps: it sets the callbacks of the fit aside, and with them ours."""
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return self.trainer.state.fn == TrainerFn.FITTING and self.freezing not in callbacks

    def activations(self, loader: ImageLoader, view: int) -> ActivationTable | None:
        if self.prefix is None or self.trainer.predicting:  # other images than those of the data set
            return None
        return self.prefix.table(loader, view)

    def on_validation_epoch_start(self) -> None:
        if self.prefix is None or self.trainer.state.fn != TrainerFn.FITTING:
            self.data.serve(self.activations)
            self.make_prefix(digest(self.network, self.network.frozen))
        if self.trainer.world_size > 1:  # each rank's BatchNorm has seen its own images; the bundle has those of rank 0
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        # The stages that train as the bundle will compute them.
        self._suffix = FrozenStages(self.network, len(self.network.frozen), dtype=self.compute_type)
        width = self.network.num_features if self._keeps_features else 0
        self._outputs = RowLogits(len(self.classes), width)  # an interrupted evaluation may have left some
        self._evaluation_started = time.perf_counter()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor] | None:
        """`logits` (N, classes), `target` (N,) and their cross-entropy, `loss`; None where no image is left."""
        if not len(batch["row"]):
            return None
        features = self._features(batch)
        logits = head_logits(self.network.head, features)
        self._outputs.add(batch["row"], logits, features)
        return {"loss": cross_entropy(logits, batch["label"]), "logits": logits, "target": batch["label"]}

    def _features(self, batch: Batch) -> Tensor:
        """What the head is given, as the bundle will compute it, (N, F)."""
        if self._suffix is None:
            raise UserError('This step belongs to a Trainer; a loop of your own computes model(batch["image"]).')
        features = self._suffix(self.images(batch) if self.prefix is None else self.prefix(batch))
        assert isinstance(features, Tensor)
        return features

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor] | None:
        """As `validation_step`."""
        return self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """`row` (N,) of the data module's `predict_index`, and `probabilities` (N, classes) float32."""
        logits = head_logits(self.network.head, self._features(batch))
        return {"row": batch["row"].cpu(), "probabilities": logits.softmax(dim=1).cpu()}

    def _finish_evaluation(self, split: str) -> None:
        found = self._outputs.gathered(self.data.index.labels, self.trainer.world_size)
        if self.trainer.sanity_checking:
            return
        numbers: dict[str, float] = {}
        if found is not None:
            self.images_per_second[split] = len(found.rows) / (time.perf_counter() - self._evaluation_started)
            self.predictions[split] = found
            if np.isfinite(found.logits).all():
                numbers = metrics_of(found.labels, found.probabilities) | self.metrics(found)
        numbers = self.trainer.strategy.broadcast(numbers)
        if not numbers:
            if self.is_tried:
                return
            raise diverged(self.current_epoch)
        self.numbers[split] = numbers
        for name, value in numbers.items():
            self.log(f"{split}_{name}", value, prog_bar=name in ("loss", "accuracy"), **SAME)

    def metrics(self, predictions: Predictions) -> dict[str, float]:
        """Further numbers by name, from all predictions of a split; a subclass may compute others.

        Runs on the first process alone; the others are given the result.
        """
        return torchmetrics.compute(self.own_metrics, predictions)

    def prediction_table(self, split: str = "val") -> pd.DataFrame:
        """The newest predictions of a split, on the first process: `id, path, label, predicted, prob_<class>...`.

        Raises:
            UserError: there are none.
        """
        if split not in self.predictions:
            how = {"val": "trainer.validate", "test": "trainer.test"}.get(split)
            way = f"{how}(model, datamodule=data) makes them" if how else "there are those of 'val' and 'test' alone"
            raise UserError(f"The model has no predictions of the split '{split}': {way}.")
        return self.predictions[split].table(self.data.index, self.classes)


def diverged(epoch: int) -> UserError:
    """What a fit ends with whose numbers are no numbers any more."""
    return UserError(
        f"The training has diverged in epoch {epoch + 1}: loss or outputs are no finite numbers; take a smaller "
        "learning rate, such as a tenth of this one (--optimizer.lr), or --trainer.gradient_clip_val 1."
    )
