"""The images to which a user's list gives another label."""

from __future__ import annotations

import logging
import os

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.listed_images import ListedImages
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.files import from_cell

log = logging.getLogger(__name__)


def relabelled(index: ImageIndex, file: str | os.PathLike[str]) -> ImageIndex:
    """`index` with the labels that a CSV file gives to the images in its column `path`, whichever split they are in.

    The labels are in a column `label`, or in `suggested`, as `resnet-tl data suspects` writes it; where there is a
    column `action`, only rows with `relabel` count.

    Raises:
        UserError: the file cannot be read, names an image or a class that is not in the data set, or empties a class.
    """
    images = ListedImages.read(file, "data.relabel")
    columns = [name for name in ("label", "suggested") if name in images.frame]
    if not columns:
        raise UserError(
            f"data.relabel: {images.file} has no column 'label' or 'suggested', only {listed(images.frame)}."
        )
    if "action" in images.frame:
        images = images.where("action", "relabel", ["exclude", "keep"])
        if images.frame.empty:
            log.warning(f"{images.file}: no row has the action relabel, so that no image gets another label.")
            return index
    elif len(columns) > 1:
        raise UserError(
            f"data.relabel: {images.file} has the columns label and suggested, but none that says action, so that "
            "either may be meant: leave one of them out."
        )
    label_of: dict[int, int] = {}
    for row, name in zip(images.rows(index), images.frame[columns[-1]], strict=True):
        label = _class_number(index, from_cell(name), images)
        if row < 0:
            continue
        if label_of.setdefault(row, label) != label:
            raise UserError(f"data.relabel: {images.file} gives {index.id(row)} two different labels; leave one.")
    changed = {row: label for row, label in label_of.items() if index.labels[row] != label}
    splits = index.table["split"].iloc[list(changed)].value_counts()
    where = ", ".join(f"{count} {split}" for split, count in splits.items() if split)
    log.info(
        f"{images.file}: {len(changed):,} of {len(index):,} images get another label"
        f"{f' ({where})' if where else ''}{', those that validate or test too' if changed else ''}"
    )
    return index.with_labels(changed)


def _class_number(index: ImageIndex, name: str, images: ListedImages) -> int:
    for meant in (name, name.strip()):
        if meant in index.classes:
            return index.classes.index(meant)
    found = f"the label '{name}'" if name.strip() else "no label"
    raise UserError(
        f"data.relabel: {images.file} gives an image {found}; it must be one of {listed(index.classes)}."
        f"{nearest(name, index.classes)}"
    )
