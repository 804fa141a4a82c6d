"""Why a model says what it says of an image: where the evidence lies, and which training images are nearest.

Both are those of the report (`networks.grad_cam`, `evaluation.uncertainty.nearest`), for one image of anybody's.
"""

from __future__ import annotations

import base64
import logging
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.errors import UserError, reason_of
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.inference.predictor import Predictor, Prepared
from resnet_tl.inference.scoring import own_images
from resnet_tl.networks.grad_cam import grad_cam
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.report.pictures import heat_image
from resnet_tl.run import Run

log = logging.getLogger(__name__)

SHOWN, SIDE = 6, 160
"""Nearest training images, and the longest side of their thumbnails, in pixels."""

_ONLY_CLASSES = ", so that nothing but their classes is known."


class Found(NamedTuple):
    """What the network says of why, before anything is read from disk."""

    name: str  # of the class that is explained, the likeliest
    pixels: np.ndarray  # what the network sees, (size, size, C) uint8
    heat: np.ndarray | None  # (h, w) from 0 to 1
    heat_missing: str  # why there is none, in a sentence
    distances: np.ndarray  # to the nearest training images, rising
    places: np.ndarray  # of these in the model's reference


class Explainer:
    """Explains what a `Predictor` says; of several models the first one is asked, for the class that all agree on.

    `compute` is the network's part, of one thread; `describe` reads thumbnails, in any.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.member = predictor.ensemble.members[0]

    def compute(self, prepared: Prepared) -> Found:
        """What the network says of one image."""
        shares = self.predictor.judge([prepared]).shares[0]
        name = self.predictor.classes[int(shares.argmax())]
        image = prepared.seen[0][:1]
        heat, missing = self._heat(image, self.member.bundle.classes.index(name))
        distances, places = np.empty(0), np.empty(0, np.int64)
        if self.member.reference:
            features = self.member.features(image).float().cpu().numpy()
            distances, places = (found[0] for found in self.member.reference.nearest(features, SHOWN))
        return Found(name, image[0].permute(1, 2, 0).numpy(), heat, missing, distances, places)

    def describe(self, found: Found) -> dict[str, Any]:
        """For JSON: pictures as data addresses, and a sentence for each thing that cannot be had."""
        image = Image.fromarray(found.pixels.squeeze(2) if found.pixels.shape[2] == 1 else found.pixels)
        answer = {"class": found.name, "size": image.width, "of_models": len(self.predictor.ensemble.members)}
        answer |= {"seen": _address(image, "PNG"), "heat": None, "heat_missing": found.heat_missing}
        if found.heat is not None:
            answer |= {"heat": _address(heat_image(found.heat), "PNG"), "strongest": place_of(found.heat)}
        reference = self.member.reference
        if reference is None:
            missing = "This model holds no training images to compare with."
            return answer | {"nearest": [], "nearest_missing": missing}
        index, why = self.training_images
        nearest = []
        for distance, place in zip(found.distances.tolist(), found.places.tolist(), strict=True):
            near = {"class": self.member.bundle.classes[reference.labels[place]], "distance": distance}
            if index is not None:
                row = int(reference.rows[place])
                is_below = not Path(index.id(row)).is_absolute()
                name = index.id(row) if is_below else index.path(row).name
                near |= {"file": name, "picture": self._thumbnail(index.path(row))}
            nearest.append(near)
        if index is not None and any(near["picture"] is None for near in nearest):
            why = "What has no picture here is no longer where the run found it."
        return answer | {"nearest": nearest, "pictures_missing": why}

    @cached_property
    def training_images(self) -> tuple[ImageIndex | None, str]:
        """The images of the run in which the model lies, or None and a sentence that says why they are not at hand."""
        run, reference = Run(self.member.bundle.path.parent), self.member.reference
        assert reference is not None
        if not run.recipe_file.is_file():
            return None, f"The model is served without its run{_ONLY_CLASSES}"
        try:
            index = own_images(run)
        except UserError as error:
            log.warning("There will be no pictures of training images: %s", error)
            return None, f"The images of the run are not where they were{_ONLY_CLASSES}"
        if not _is_list_of(index, self.member.bundle.classes, reference):
            log.warning("There will be no pictures of training images: %s lists other ones than the model's.", run.path)
            return None, f"The run lists other images than those of the model{_ONLY_CLASSES}"
        return index, ""

    def _heat(self, image: torch.Tensor, number: int) -> tuple[np.ndarray | None, str]:
        """The map (h, w) of what speaks for a class, or a sentence why there is none."""
        try:
            with torch.inference_mode(False):
                pixels = self.member.bundle.preprocessing.normalise(image.to(self.member.device))
                heat = grad_cam(self._network, pixels, torch.tensor([number], device=pixels.device))[0].cpu().numpy()
            return (heat, "") if heat.any() else (None, "Nothing that the network sees in the image speaks for it.")
        except Exception as error:  # whatever a network of anyone's raises
            log.warning("There is no Grad-CAM: %s", reason_of(error))
        return None, "There is no Grad-CAM of this network."

    @cached_property
    def _network(self) -> StagedNetwork:
        """The network once more, for the copy that predicts has no gradients."""
        return self.member.bundle.load_network().to(self.member.device).requires_grad_(False)

    def _thumbnail(self, path: Path) -> str | None:
        """The picture of a training image as a data address; None where it cannot be read any more.

        It is encoded again, so that nothing of the file but its pixels gets out.
        """
        try:
            image = Image.fromarray(decode(path, 3, SIDE, self.member.bundle.preprocessing.value_range))
        except BadImage:
            return None
        image.thumbnail((SIDE, SIDE))
        return _address(image, "JPEG")


def place_of(heat: np.ndarray) -> str:
    """Where a map (h, w) is highest, in words: of thirds of the image."""
    height, width = heat.shape
    row, column = divmod(int(heat.argmax()), width)
    down = ("top", "", "bottom")[3 * (2 * row + 1) // (2 * height)]
    across = ("left", "", "right")[3 * (2 * column + 1) // (2 * width)]
    return f"at the {down} {across}".strip().replace("  ", " ") if down or across else "in the middle"


def _is_list_of(index: ImageIndex, classes: tuple[str, ...], reference: Reference) -> bool:
    """Whether an index has the images of a reference, by their labels."""
    if reference.rows.min() < 0 or reference.rows.max() >= len(index):
        return False
    labels = index.labels[reference.rows]
    if labels.min() < 0 or reference.labels.min() < 0 or reference.labels.max() >= len(classes):
        return False
    return [index.classes[label] for label in labels] == [classes[label] for label in reference.labels]


def _address(image: Image.Image, kind: str) -> str:
    file = BytesIO()
    image.save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
