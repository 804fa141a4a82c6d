from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.data.index import ImageIndex
from resnet_tl.errors import UserError

ROWS = [("train/a/1.jpg", 0, "train"), ("train/b/2.jpg", 1, "train"), ("train/b/3.jpg", 1, "train")]
ROWS += [("val/b/4.jpg", 1, "val"), ("new/5.jpg", -1, "predict")]


def make(root: Path, rows: list[tuple[str, int, str]] = ROWS) -> ImageIndex:
    table = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
    for row, path in enumerate(table["path"]):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * (row + 1))
    return ImageIndex(root, table, ("a", "b"), "made by hand")


def test_rows_of_a_split_are_its_positions_in_the_table(tmp_path: Path) -> None:
    index = make(tmp_path)
    assert index.rows("train").tolist() == [0, 1, 2]
    assert index.rows("val").tolist() == [3]
    assert index.rows("test").tolist() == []
    assert index.rows("val").dtype == index.labels.dtype == np.int64
    with pytest.raises(ValueError, match="not a split"):
        index.rows("validation")


def test_an_id_is_the_path_in_the_table_and_leads_to_the_file(tmp_path: Path) -> None:
    index = make(tmp_path)
    assert index.ids() == [path for path, _, _ in ROWS]
    assert index.id(3) == "val/b/4.jpg"
    assert index.path(3).stat().st_size == 4


def test_counts_show_every_class_even_where_a_split_lacks_it(tmp_path: Path) -> None:
    counts = make(tmp_path).counts()
    assert list(counts.columns) == ["train", "val"]
    assert counts.loc["a"].tolist() == [1, 0]
    assert counts.loc["b"].tolist() == [2, 1]


def test_removing_rows_renumbers_and_keeps_the_labels(tmp_path: Path) -> None:
    index = make(tmp_path)
    fewer = index.without(np.array([1]))
    assert fewer.ids() == [path for row, path in enumerate(index.ids()) if row != 1]
    assert fewer.labels.tolist() == [0, 1, 1, -1]
    assert fewer.rows("val").tolist() == [2]
    assert len(index) == 5


def test_a_class_that_loses_its_last_training_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable training image of class 'a'"):
        make(tmp_path).without([0])


@pytest.mark.parametrize(("column", "value"), [("label", 2), ("label", -2), ("split", "valid")])
def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path, column: str, value: object) -> None:
    index = make(tmp_path)
    table = index.table.copy()
    table.loc[0, column] = value
    with pytest.raises(ValueError, match="must be"):
        ImageIndex(tmp_path, table, index.classes, "")
