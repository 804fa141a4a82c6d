"""Batches of images by (row, view): decoded, resized, then transformed and augmented, or cropped in the middle."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from resnet_tl.data.content_hashes import digest_of
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.augmentation import Augmentation, write_centres
from resnet_tl.data.pixels.decode import BadImage, decode, read_file
from resnet_tl.data.pixels.pixel_cache import PixelCache
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.transform import UserTransform
from resnet_tl.errors import UserError


class Batch(TypedDict, total=False):
    """What the network is given, with `label` (N,) int64, -1 where unknown, and `row` (N,) int64, of the index.

    Callbacks read it too.

    Either `image` (N, C, H, W) uint8, channels last, and with it, where the augmentation changes colours, `colour`
    (N, 3) float32 for `adjust_colour`; or `activation`, what the frozen stages made of the images.
    """

    image: torch.Tensor
    colour: torch.Tensor
    activation: Any
    label: torch.Tensor
    row: torch.Tensor


class NoImage(UserError, KeyError):
    """A batch of kept activations was asked for its images."""


class ActivationBatch(dict):
    """A batch that holds what the frozen stages made of the images, in their place."""

    def __missing__(self, key: str) -> Any:
        if key not in ("image", "colour"):
            raise KeyError(key)
        raise NoImage(
            f"This batch has no '{key}': what the frozen stages make of the images is kept, and the batch has that as "
            "'activation', with 'label' and 'row'; for images give --model.activation_cache off."
        )


class ImageSamples(Dataset["Batch | UserError"]):
    """The samples of an index by (row, view); without an augmentation a view is the centre crop.

    `cache` gives stored images that are kept; `contents` are the content hashes (N, 32) that files must still have.
    """

    def __init__(
        self,
        index: ImageIndex,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        cache: PixelCache | None = None,
        contents: np.ndarray | None = None,
        transform: UserTransform | None = None,
    ) -> None:
        self.index = index
        self.labels = index.labels
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.cache = cache
        self.contents = contents
        self.transform = transform

    def stored(self, row: int) -> torch.Tensor:
        """The stored image (C, h, w) uint8 of a row; safe to call from threads, and not to be written to."""
        return self.cache(row, self._decoded) if self.cache else self._decoded(row)

    def _decoded(self, row: int) -> torch.Tensor:
        path = self.index.path(row)
        content = read_file(path)
        if self.contents is not None and digest_of(content) != self.contents[row].tobytes():
            raise BadImage("has changed since the images were checked: start again when all are in place", path)
        try:
            return self.stored_from(content)
        except BadImage as error:
            raise BadImage(error.reason, path) from None

    def stored_from(self, content: bytes) -> torch.Tensor:
        """The stored image (C, h, w) uint8 of the bytes of a file."""
        planned = self.preprocessing
        return planned.store(decode(content, planned.channels, planned.storage_size, planned.value_range))

    def empty(self, number: int, size: int | None = None) -> torch.Tensor:
        """Room for so many of the network's inputs of a side in pixels; default: the preprocessing's."""
        size = size or self.preprocessing.size
        shape = (number, size, size, self.preprocessing.channels)
        return torch.empty(shape, dtype=torch.uint8, device="cpu").permute(0, 3, 1, 2)

    def write(self, rows: np.ndarray, view: int, out: torch.Tensor) -> None:
        """Writes the network's inputs of some rows into `out`, (N, C, size, size) uint8; in threads if no transform."""
        images = [self.stored(row) for row in rows.tolist()]
        if self.transform:
            images = [self.transform(image, view, row) for image, row in zip(images, rows.tolist(), strict=True)]
        if self.augmentation:
            self.augmentation.write(images, rows, view, out)
        else:
            write_centres(self.preprocessing, images, out)

    def describe(self, rows: np.ndarray) -> Batch:
        """A batch that lacks what the network is given."""
        return {"label": torch.from_numpy(self.labels[rows]), "row": torch.from_numpy(rows.astype(np.int64))}

    def complete(self, images: torch.Tensor, rows: np.ndarray, view: int) -> Batch:
        """The batch of images that were written."""
        batch: Batch = {"image": images, **self.describe(rows)}
        if self.augmentation and (colour := self.augmentation.colour(rows, view)) is not None:
            batch["colour"] = colour
        return batch

    def batch(self, rows: np.ndarray, view: int, size: int | None = None) -> Batch:
        """The batch of some rows, made here and now; a BadImage says that a file cannot be read any more."""
        images = self.empty(len(rows), size)
        self.write(rows, view, images)
        return self.complete(images, rows, view)

    def __getitem__(self, key: tuple[np.ndarray, int, int]) -> Batch | UserError:
        """A whole batch for a worker process, or the error, which DataLoader would raise with a stack trace."""
        try:
            return self.batch(*key)
        except UserError as error:
            return error
