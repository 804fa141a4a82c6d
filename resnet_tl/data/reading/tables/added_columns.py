"""What tables add to class folders: splits and groups of their images, and labels of others to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.folders.structure import counted
from resnet_tl.data.reading.indexing import number_classes
from resnet_tl.data.reading.tables.columns import Columns
from resnet_tl.data.reading.tables.label_rows import Rows, each_once, require_sound
from resnet_tl.data.reading.tables.named_images import relative, split_by_folders
from resnet_tl.errors import listed


def adds(columns: Columns) -> bool:
    """Whether a table has anything but classes to say."""
    return bool(columns.split or columns.flags or columns.group)


def with_columns_of(index: ImageIndex, rows: Rows, name: str, learns: bool) -> ImageIndex:
    """The images of folders with the splits and groups that a table gives them; one without a split is left out.

    Raises:
        UserError: what is wrong with the table, or with the splits that it makes.
    """
    source, columns = rows.table.source, rows.table.columns
    require_sound([rows])
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


def with_images_of(index: ImageIndex, tables: Sequence[Rows], name: str) -> ImageIndex:
    """The images of folders, to learn from, and those of tables, in the splits that their folders say.

    Raises:
        UserError: what is wrong with a table, or with its classes.
    """
    require_sound(tables)
    rows = pd.concat([one.frame for one in tables], ignore_index=True).query("path != ''")
    ids = [relative(path, index.root) for path in rows["path"]]
    splits = [split_by_folders(path.split("/")[:-1]) for path in ids]
    notes = [note for one in tables for note in one.notes]
    rows = each_once(rows.assign(path=ids, split=splits), name, notes)
    labels = [index.classes[label] for label in index.labels]
    learnt = index.table.assign(label=labels, split=index.table["split"].replace("", "train"))
    columns = tables[0].table.columns.described(list(tables[0].table.file.frame.columns))
    layout = f"{index.layout}; {listed(sorted(set(splits)))}: {counted(len(rows), 'image')} of {name} ({columns})"
    table = pd.concat([learnt, rows], ignore_index=True)
    made = number_classes(index.root, table, name, "; ".join([layout, *notes]), learns=True)
    return replace(made, missing=tuple(name for one in tables for name in one.missing), doubts=index.doubts)
