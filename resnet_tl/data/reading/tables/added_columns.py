"""Splits and groups from a table beside class folders, for images whose classes the folders say."""

from __future__ import annotations

from dataclasses import replace

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.folders.structure import counted
from resnet_tl.data.reading.indexing import number_classes
from resnet_tl.data.reading.tables.columns import Columns
from resnet_tl.data.reading.tables.label_rows import Rows, sentence
from resnet_tl.errors import UserError, listed


def adds(columns: Columns) -> bool:
    """Whether a table has anything but classes to say."""
    return bool(columns.split or columns.flags or columns.group)


def with_columns_of(index: ImageIndex, rows: Rows, name: str, learns: bool) -> ImageIndex:
    """The images of folders with the splits and groups that a table gives them; one without a split is left out.

    Raises:
        UserError: what is wrong with the table, or with the splits that it makes.
    """
    source, columns = rows.table.source, rows.table.columns
    if rows.problems:
        raise UserError(sentence(source, rows.problems))
    paths = [str(index.root / path) for path in index.ids()]
    splits, groups = (dict(zip(rows.frame["path"], rows.frame[name], strict=True)) for name in ("split", "group"))
    table = index.table.assign(label=[index.classes[label] if label >= 0 else "" for label in index.labels])
    notes = []
    if columns.group:
        table = table.assign(group=[groups.get(path, "") for path in paths])
        notes.append(f"group: {columns.group} of {name}")
    if columns.split or columns.flags:
        table = table.assign(split=[splits.get(path, "") for path in paths])
        notes.append(f"split: {columns.split or listed(columns.flags)} of {name}")
        if without := int((table["split"] == "").sum()):
            notes.append(f"{counted(without, 'image')} left out, it says no split of theirs")
            table = table[table["split"] != ""].reset_index(drop=True)
    layout = "; ".join([index.layout, *notes, *rows.notes])
    made = number_classes(index.root, table, source.name, layout, learns)
    return replace(made, missing=tuple(rows.missing), doubts=index.doubts)
