"""What a user sets about the images: names, defaults, and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, get_args

import pandas as pd

from resnet_tl.data.draws import default_seed
from resnet_tl.data.pixels.augmentation import Policy
from resnet_tl.data.pixels.preprocessing import ResizeRule, check_value_range
from resnet_tl.data.pixels.symmetry import Symmetry
from resnet_tl.data.pixels.transform import UserTransform
from resnet_tl.data.reading.options import Layout, Reading
from resnet_tl.errors import NamesArguments, UserError, check_number, nearest
from resnet_tl.user_code import plain_values
from resnet_tl.wording import names_arguments

AugmentationName = Literal["auto", Policy]
SymmetryName = Literal["auto", Symmetry]
Channels = Literal[1, 3, 4]
OnBadImage = Literal["stop", "skip"]
OnLeak = Literal["stop", "warn"]
PixelCacheMode = Literal["auto", "on", "off"]
SamplerName = Literal["shuffled", "balanced"]

_WORDS = {
    "layout": Layout,
    "augmentation": AugmentationName,
    "symmetry": SymmetryName,
    "resize_rule": ResizeRule,
    "channels": Channels,
    "on_bad_image": OnBadImage,
    "on_leak": OnLeak,
    "sampler": SamplerName,
    "pixel_cache": PixelCacheMode,
}
_LEAST = {"batch_size": 1, "image_size": 8, "test_size": 8, "storage_size": 8, "views": 1, "workers": 0}
_LEAST |= {"seed": 0, "split_seed": 0, "folds": 2, "fold": 1}


class DataOptions(NamesArguments):
    """The section `data` of a recipe.

    Args:
        root: folder of images, .zip of one, or table of them (.csv, .tsv, .jsonl); overrides `source`.
        source: a data set known by name: see `resnet-tl data list`.
        batch_size: images per step and process; where an epoch would end on a single image, that one is left out.
        augmentation: of training images: none, light (random resized crop), standard (light, colour, rotation),
            trivial_augment, or shift (small images); auto: none for the mode head, else light.
        symmetry: what leaves a class unchanged, so that training images are shown so: none (digits), mirror (left and
            right: most photos), dihedral (the eight flips and quarter turns: what is seen from above); auto: measured
            in some seconds, or none where `augmentation` is none.
        views: how many augmented versions of each image there are: epoch e shows version e mod `views`, so that what
            frozen stages make of them can be kept; null: a new one in each epoch; auto: by the mode, see
            docs/defaults.md.
        random_erasing: the chance, 0 to 1, that a rectangle of a training image is painted over.
        image_size: side of the network's input in pixels; default: what the network's weights were trained at, or
            the images' own size where they are small. A phase of `model.schedule` may train at another one.
        test_size: side in pixels at which images are validated, tested and predicted, such as a quarter more than
            they are trained at (FixRes: Touvron et al. 2019, arXiv 1906.06423); default: `image_size`.
        storage_size: length of the short side, in pixels, to which every image is resized before it is cropped;
            default: the largest size that it is seen at, divided by `crop_ratio`.
        crop_ratio: share of the short side that is seen where an image is not augmented, its centre; 1 for images whose
            border counts; default: what the weights were evaluated with (mostly 0.875), and 1 for small images.
        resize_rule: short_side keeps an image's shape and crops it, squash stretches it to a square.
        channels: 3 for RGB, 1 for grey, 4 for RGBA.
        value_range: [LOW, HIGH], the values that become black and white in images of more than 8 bits (16-bit and
            float files); default: found over the training images.
        val_fraction: share of the training images held out for validation, per class, where there is no val split.
        test_fraction: share of the training images held out for a test, where there is no labelled test split.
        folds: into how many parts the images are dealt, all but a test split, a val split included: each class evenly,
            groups and copies of one picture together. `resnet-tl fit --folds N` trains N networks, each validated on
            another part.
        fold: the part, from 1, that this one is validated on.
        final: train on the validation images as well, so that nothing chooses an epoch: `resnet-tl fit --final RUN`.
        on_bad_image: stop, or skip files that cannot be decoded or that a table names in vain (the run lists them).
        on_leak: stop, or warn when an image of one split, or a group, is in another one as well; our own split never
            leaks.
        exclude: CSV file with the column path: images to leave out; of `resnet-tl data check` those with the
            suggestion exclude, of `resnet-tl data suspects` those with the action exclude.
        relabel: CSV file with the columns path and label: images that get another label, whichever split they are in;
            of `resnet-tl data suspects` those with the action relabel, which get the one that is suggested.
        layout: what the folders in `root` mean: class_folders, split_folders (train, val, test), flat_names (the class
            in each file's name, as cat.0.jpg), or auto, which looks and stops where it is in doubt.
        path_column: the column of a table that names its images; default: found by looking, as the next two.
        label_column: the one that holds their classes.
        group_column: the one whose equal values, of a patient or a camera, stay in one split.
        image_folder: the folder that holds a table's images; default: the table's own, and all below it.
        sampler: shuffled, or balanced: every class equally likely, drawn with replacement.
        pixel_cache: keep the decoded images on disk: auto where there is room, on (an error where there is none), off.
            The results are the same.
        workers: worker processes for loading; 0 uses threads of this process; default: 0 on a CPU, up to 8 on a GPU.
        seed: of the split, the order of the images and their augmentation; default: that of Lightning's
            `seed_everything` where it was called before, else 0.
        split_seed: of the split alone, so that runs with other seeds are judged on the same images; default: `seed`.
        transform: your own of a training image, uint8 (C, H, W), in front of `augmentation` (none: in its place), run
            in worker processes: module.Name or {class_path, init_args}; in Python also a callable, as of torchvision.
        predict_root: files, folders or tables of images without labels, for `trainer.predict`.

    Raises:
        UserError: a value that is not allowed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        source: str | None = None,
        batch_size: int = 32,
        augmentation: AugmentationName = "auto",
        symmetry: SymmetryName = "auto",
        views: int | Literal["auto"] | None = "auto",
        random_erasing: float = 0.0,
        image_size: int | None = None,
        test_size: int | None = None,
        storage_size: int | None = None,
        crop_ratio: float | None = None,
        resize_rule: ResizeRule = "short_side",
        channels: Channels = 3,
        value_range: tuple[float, float] | None = None,
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        folds: int | None = None,
        fold: int | None = None,
        final: bool = False,
        on_bad_image: OnBadImage = "stop",
        on_leak: OnLeak = "stop",
        exclude: str | os.PathLike[str] | None = None,
        relabel: str | os.PathLike[str] | None = None,
        layout: Layout = "auto",
        path_column: str | None = None,
        label_column: str | None = None,
        group_column: str | None = None,
        image_folder: str | None = None,
        sampler: SamplerName = "shuffled",
        pixel_cache: PixelCacheMode | bool = "auto",
        workers: int | None = None,
        seed: int | None = None,
        split_seed: int | None = None,
        transform: str | dict[str, Any] | Callable | None = None,
        predict_root: str | list[str] | None = None,
    ) -> None:
        super().__init__()  # of whatever class this one is mixed into
        seed = default_seed() if seed is None else seed
        # YAML reads a bare on or off as a boolean.
        pixel_cache = ("off", "on")[pixel_cache] if isinstance(pixel_cache, bool) else pixel_cache
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.root = root
        self.source = source
        self.frame: pd.DataFrame | None = None
        self.predict_root = predict_root
        self.batch_size = batch_size
        self.augmentation: Policy = augmentation  # type: ignore[assignment]  # auto, until `use` says what it is
        self.symmetry: Symmetry = symmetry  # type: ignore[assignment]  # likewise
        self.transform = None if transform is None else UserTransform(transform, seed)
        self.views: int | None = views  # type: ignore[assignment]  # likewise
        self.random_erasing = random_erasing
        self.image_size = image_size
        self.test_size = test_size
        self.storage_size = storage_size
        self.crop_ratio = crop_ratio
        self.resize_rule = resize_rule
        self.channels = channels
        self.value_range = None if value_range is None else tuple(value_range)
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.folds = folds
        self.fold = fold
        self.final = final
        self.on_bad_image = on_bad_image
        self.on_leak = on_leak
        self.exclude = exclude
        self.relabel = relabel
        self.layout = layout
        self.path_column = path_column
        self.label_column = label_column
        self.group_column = group_column
        self.image_folder = image_folder
        self.sampler = sampler
        self.pixel_cache = pixel_cache
        self.workers = workers
        self.seed = seed
        self.split_seed = split_seed
        self._check()
        self.begin({name: _plain(value) for name, value in given.items()})

    def begin(self, given: dict[str, Any]) -> None:
        """Called with the options, in plain values, once they are set."""

    @property
    def reading(self) -> Reading:
        """How the images are read."""
        columns = (self.path_column, self.label_column, self.group_column)
        return Reading(self.layout, *columns, self.image_folder, self.on_bad_image)

    def _check(self) -> None:
        """What the command line's parser would have refused; a plain caller has no parser."""
        for name, words in _WORDS.items():
            value, choices = getattr(self, name), get_args(words)
            if value not in choices:
                allowed = f"{', '.join(map(str, choices))}.{nearest(value, choices)}"
                raise UserError(f"data.{name} is '{value}'; it must be one of {allowed}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if name == "views" and isinstance(value, str) and value != "auto":
                raise UserError(f"data.views is '{value}'; it must be auto, null, or a whole number of 1 or more.")
            if value is None or (value == "auto" and name == "views"):
                continue
            check_number(f"data.{name}", value, is_whole=True)
            if value < least:
                raise UserError(f"data.{name} is {value}; it must be {least} or more.")
        for name in ("random_erasing", "val_fraction", "test_fraction"):
            value = getattr(self, name)
            check_number(f"data.{name}", value)
            if not 0 <= value <= 1:
                raise UserError(f"data.{name} is {value}; it must be from 0 to 1.")
        if self.crop_ratio is not None:
            check_number("data.crop_ratio", self.crop_ratio)
            if not 0 < self.crop_ratio <= 1:
                raise UserError(f"data.crop_ratio is {self.crop_ratio}; it must be above 0, and 1 at most.")
        if self.value_range is not None:
            try:
                check_value_range(self.value_range)
            except ValueError as error:
                raise UserError(f"data.{error}, such as [0, 4095].") from None
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                "data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on."
            )
        self._check_folds()
        if self.transform is not None and self.workers == 0:
            raise UserError(
                "data.workers is 0, but data.transform draws from generators that threads share, so that it runs in "
                "worker processes only: give --data.workers 1 or more, or leave it out."
            )

    def _check_folds(self) -> None:
        if self.final and self.fold is not None:
            raise UserError("data.final trains on the images of every fold: leave out data.fold.")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise UserError(f"data.fold is {self.fold}, but data.folds is {self.folds}; fold is from 1 to folds.")
        if self.folds is not None and self.fold is None and not self.final:
            raise UserError(
                f"data.folds is {self.folds}, and data.fold does not say which of them is held out: give it, from 1 to "
                f"{self.folds} (`resnet-tl fit --folds {self.folds}` trains them all)."
            )


def _plain(value: Any) -> Any:
    """As hyperparameters hold it: a path as text, a callable by its name."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return plain_values(value) if callable(value) else value


names_arguments("data", DataOptions)
