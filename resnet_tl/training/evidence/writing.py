"""Writes the evidence of a fit beside its predictions, and makes what its model compares new images with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError, reason_of
from resnet_tl.evaluation.image_map import MOST as MOST_IN_MAP
from resnet_tl.evaluation.image_map import map_of
from resnet_tl.evaluation.mistakes import MOST_SHOWN, least_certain, mistakes
from resnet_tl.evaluation.predictions import table_of, write_predictions
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.evaluation.uncertainty.nearest import NEIGHBOURS, drawn, knn_shares, nearest, unit
from resnet_tl.files import as_cell, replacing, write_text
from resnet_tl.networks.grad_cam import grad_cam
from resnet_tl.run import Run
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.evidence.baselines import MOST_PRODUCTS, check_baseline, probe_baseline
from resnet_tl.training.evidence.cost import MOST, images_in_bundle, training_passes
from resnet_tl.training.evidence.features import Gallery, gallery_of, pretrained_features
from resnet_tl.training.numbers.predictions import Predictions

log = logging.getLogger(__name__)

SHOWN_NEIGHBOURS = 3


def write_evidence(
    run: Run, model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer, epochs: int
) -> Reference | None:
    """Writes `evidence/val/` of a run, on one process, and gives the reference of its model; None without validation.

    `epochs` is how many were trained; the model's predictions of `val` hold features. What cannot be made is left out:
    `facts.json` says why, and so does a warning where that was not to be expected.
    """
    found = model.predictions.get("val")
    if found is None or found.features is None:
        return None
    model.to(trainer.strategy.root_device)  # Lightning has taken it off a GPU
    model.network.eval()
    try:
        passes = training_passes(model, data, epochs) / trainer.world_size  # of one process: all others wait for it
        return _Evidence(run.evidence, model, data, found, passes).write()
    finally:
        model.cpu()
        model.predictions["val"] = replace(found, features=None)  # up to 1 GB


class _Evidence:
    """The parts of the evidence, each made on its own, and what is said of them."""

    def __init__(
        self, folder: Path, model: ImageClassifier, data: ImageDataModule, found: Predictions, passes: float
    ) -> None:
        assert found.features is not None
        self.folder = folder
        self.model = model
        self.data = data
        self.found = found
        self.judged = unit(found.features)  # the validation images, (m, F)
        self.passes = passes
        self.reference: Reference | None = None
        self.gallery: Gallery | None = None
        self.facts: dict[str, Any] = {"images": len(found.rows)}

    def write(self) -> Reference | None:
        self._part("reference", self._refer)
        self._part("neighbours", self._neighbours)
        self._part("map", self._map)
        self._part("gradcam", self._grad_cam)
        self._part("baselines", self._baselines)
        write_text(self.folder / "facts.json", json.dumps(self.facts, indent=2, ensure_ascii=False) + "\n")
        return self.reference

    def _part(self, name: str, make: Callable[[], dict[str, Any]]) -> None:
        """Makes one part; one that cannot be made is no reason to lose a fit."""
        try:
            self.facts[name] = make()
        except UserError as error:
            self.facts[name] = {"missing": str(error)}
        except Exception as error:  # whatever a network of anyone's, or a library, raises
            self.facts[name] = {"missing": reason_of(error)}
            log.warning(f"The {name} in {self.folder} could not be made: {reason_of(error)}.")

    def _refer(self) -> dict[str, Any]:
        self.gallery = gallery_of(self.model, self.data, self.passes)
        few = self.gallery.of(drawn(self.gallery.labels, images_in_bundle(self.judged.shape[1])))
        self.reference = Reference.make(few.features, few.labels, few.rows, self.judged)
        of = len(self.data.index.rows("train"))
        return {"images": len(few.rows), "of": of, "neighbours": self.reference.neighbours}

    def _neighbours(self) -> dict[str, Any]:
        """The training images that are nearest to each validation image, for the trained network."""
        gallery, index = self.gallery, self.data.index
        if gallery is None:
            raise UserError("there is no reference")
        if len(gallery.rows) * self.judged.size > MOST_PRODUCTS:
            gallery = gallery.of(drawn(gallery.labels, MOST))
        distances, places = nearest(self.judged, unit(gallery.features), SHOWN_NEIGHBOURS)
        count = places.shape[1]
        rows = gallery.rows[places.ravel()]
        table = pd.DataFrame(
            {
                "id": [index.id(row) for row in self.found.rows.repeat(count)],
                "rank": np.tile(np.arange(1, count + 1), len(places)),
                "path": [str(index.path(row)) for row in rows],
                "label": [index.classes[label] for label in index.labels[rows]],
                "distance": [f"{distance:.6f}" for distance in distances.ravel()],
            }
        )
        self._write_table("neighbours", table, ("id", "path", "label"))
        return {"among": len(gallery.rows), "of": len(index.rows("train"))}

    def _map(self) -> dict[str, Any]:
        chosen = drawn(self.found.labels, MOST_IN_MAP)
        places = map_of(self.judged[chosen])
        ids = [self.data.index.id(row) for row in self.found.rows[chosen]]
        x, y = ([f"{value:.4f}" for value in axis] for axis in places.T)
        self._write_table("map", pd.DataFrame({"id": ids, "x": x, "y": y}), ("id",))
        return {"images": len(chosen), "of": len(self.found.rows)}

    def _grad_cam(self) -> dict[str, Any]:
        table = self.found.table(self.data.index, self.model.classes)
        shown = [*mistakes(table).head(MOST_SHOWN).index, *least_certain(table).head(MOST_SHOWN).index]
        chosen = np.unique(shown)
        rows, device = self.found.rows[chosen], self.model.device
        images = torch.cat(list(self.data.centres(rows))).to(device)
        classes = torch.from_numpy(self.found.logits[chosen].argmax(axis=1)).to(device)
        maps = grad_cam(self.model.network, self.data.preprocessing.normalise(images), classes)
        ids = np.array([self.data.index.id(row) for row in rows], dtype=np.str_)
        with replacing(self.folder / "gradcam.npz") as file:
            np.savez_compressed(file, id=ids, map=maps.cpu().numpy().astype(np.float16))
        return {"images": len(rows)}

    def _baselines(self) -> dict[str, Any]:
        of_rows = pretrained_features(self.model, self.data, self.passes)
        index, rows = self.data.index, self.found.rows
        labels, classes = index.labels[index.rows("train")], len(self.model.classes)
        size = (len(labels), *self.judged.shape, classes)

        @cache  # where one of the two takes them
        def features() -> tuple[np.ndarray, np.ndarray]:
            return of_rows(index.rows("train")), of_rows(rows)

        def knn() -> dict[str, Any]:
            check_baseline("knn", *size)
            train, judged = features()
            self._write_predictions("knn", knn_shares(judged, train, labels, classes))
            return {"neighbours": min(NEIGHBOURS, len(train)), "training_images": len(train)}

        def probe() -> dict[str, Any]:
            if self.model.hparams["head_solver"] == "lbfgs":
                raise UserError("the head is solved on the pretrained features: the model is this probe")
            check_baseline("probe", *size)
            train, judged = features()
            shares, penalty = probe_baseline(train, labels, judged, self.found.labels, classes)
            self._write_predictions("probe", shares)
            return {"penalty": penalty, "training_images": len(train)}

        self._part("knn", knn)
        self._part("probe", probe)
        return {"features": self.model.origin.source if self.model.origin else ""}

    def _write_predictions(self, name: str, shares: np.ndarray) -> None:
        index, rows = self.data.index, self.found.rows
        ids, paths = [index.id(row) for row in rows], [str(index.path(row)) for row in rows]
        write_predictions(
            table_of(ids, paths, self.found.labels, shares, self.model.classes), self.folder / f"{name}.csv"
        )

    def _write_table(self, name: str, table: pd.DataFrame, texts: tuple[str, ...]) -> None:
        with replacing(self.folder / f"{name}.csv") as file:
            cells = table.assign(**{text: table[text].map(as_cell) for text in texts})
            cells.to_csv(file, index=False, lineterminator="\n", encoding="utf-8")
