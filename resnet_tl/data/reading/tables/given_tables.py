"""Tables of images, labels, splits and groups (files, data frames), whose columns are found by looking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.columns import (
    PATHS,
    Columns,
    Source,
    find_columns,
    find_path,
    is_called,
    likely_labels,
    numbered_labels,
)
from resnet_tl.data.reading.tables.label_rows import LabelTable, index_of, not_found, rows_of, sentence, text_of
from resnet_tl.data.reading.tables.named_images import NamedImages
from resnet_tl.data.reading.tables.table_files import TableFile, read_table, without_header
from resnet_tl.data.reading.words import split_in
from resnet_tl.errors import UserError, listed, nearest


def from_file(path: Path, reading: Reading, learns: bool) -> ImageIndex:
    """Labelled images from a table on disk; its paths start from its folder, or from the image folder."""
    source = Source(str(path), str(path))
    table = with_columns(read_table(path), source, images_for(path.parent, source, reading), reading)
    return index_of([rows_of(table, reading)], path.parent, f"table {path.name}", learns)


def from_frame(frame: pd.DataFrame, root: Path, reading: Reading) -> ImageIndex:
    """Labelled images from a data frame; its paths start from `root`, or from the image folder."""
    source, file = Source("The data frame"), TableFile(frame.rename(columns=str).reset_index(drop=True))
    if not file.frame.columns.is_unique:
        raise UserError(f"{source.name} has two columns of one name: {listed(file.frame.columns)}; rename them.")
    table = with_columns(file, source, images_for(root, source, reading), reading)
    return index_of([rows_of(table, reading)], root, "data frame", learns=True)


def images_in(path: Path, reading: Reading) -> tuple[list[str], list[str]]:
    """The absolute paths of the images that a table on disk names, and what it names that is not there."""
    source, file = Source(str(path), str(path)), read_table(path)
    images = images_for(path.parent, source, reading)
    column, is_found = find_path(file.frame, images, source, reading)
    if not is_found:
        raise UserError(_question(file.frame, Columns(column), ["path"], source, images, reading))
    first = [column] if file.has_header and _is_an_image(column, images) else []
    values = [value for value in dict.fromkeys([*first, *map(text_of, file.frame[column])]) if value]
    meant = images.meant_by(values, otherwise=split_in(path.stem))
    if problems := not_found(meant, len(values), column, images, source, reading):
        raise UserError(sentence(source, problems))
    return list(meant.paths.values()), meant.missing


def images_for(folder: Path, source: Source, reading: Reading) -> NamedImages:
    """The images that a table in a folder may name: those below it, or below the image folder."""
    if reading.image_folder is None:
        return NamedImages(folder, folder)
    for place in (folder, Path.cwd()):
        base = Path(os.path.abspath(place / Path(reading.image_folder).expanduser()))  # noqa: PTH100 -- keeps links
        if base.is_dir():
            return NamedImages(base, base)
    near = nearest(reading.image_folder, [entry.name for entry in folder.iterdir() if entry.is_dir()])
    option = source.option("image_folder", reading.image_folder)
    raise UserError(f"{source.name}: {option} is no folder in {folder}.{near}")


def with_columns(
    file: TableFile, source: Source, images: NamedImages, reading: Reading, needs_labels: bool = True
) -> LabelTable:
    """The table with its columns found, or as they are named; it may do without labels where folders say them.

    Raises:
        UserError: what is not found, with all that is to be typed.
    """
    if file.frame.empty:
        raise UserError(f"{source.name} has no rows.")
    path, is_found = find_path(file.frame, images, source, reading)
    if file.has_header and is_found and _is_an_image(path, images):
        return with_columns(without_header(file), source, images, reading, needs_labels)
    columns = find_columns(file.frame, path, file.has_header, source, reading)
    unknown = [] if is_found else ["path"]
    unknown += [] if columns.labels or not needs_labels else ["label"]
    if unknown:
        raise UserError(_question(file.frame, columns, unknown, source, images, reading))
    return LabelTable(file, source, images, columns)


def _is_an_image(column: str, images: NamedImages) -> bool:
    """Whether the name of a column of images is that of one: then the first line is a row."""
    return not is_called(column, PATHS) and len(images.meant_by([column]).paths) == 1


def _question(
    frame: pd.DataFrame,
    columns: Columns,
    unknown: Sequence[str],
    source: Source,
    images: NamedImages,
    reading: Reading,
) -> str:
    """What cannot be told by looking, all of it, and what is to be typed."""
    names, folder, labels, reasons = list(frame.columns), reading.image_folder, list(columns.labels), []
    path = columns.path or max(names, key=lambda name: frame[name].map(str).nunique())
    if "path" in unknown:
        values = [value for value in map(text_of, frame[path]) if value]
        examples = listed((value if len(value) < 80 else f"{value[:80]}…" for value in values), 3)
        reasons.append(f"nothing in its column '{path}' ({examples}) is an image below {images.base}")
        folder = images.folder_beside(values[:100])
    if "label" in unknown:
        labels = likely_labels(frame, replace(columns, path=path))
        several = numbered_labels(names)
        what = f"it has several label columns, {listed(several)}, and an image has one label" if several else ""
        reasons.append(what or f"it cannot be told which of its columns {listed(names)} is the class")
    found = f"{source.name}: {', and '.join(reasons)}"
    if "path" in unknown and not folder:
        return f"{found}; name the folder that holds the images by {source.option('image_folder', 'FOLDER')}."
    if "label" in unknown and not labels:
        return f"{found}; add a column label."
    label = labels[0] if len(labels) == 1 or "label" in unknown else None
    command = source.command(path_column=path, label_column=label, image_folder=folder)
    others = f" (or another label_column: {listed(labels[1:])})" if "label" in unknown and labels[1:] else ""
    return f"{found}; say it: {command}{others}"
