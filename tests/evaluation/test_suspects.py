from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.evaluation.label_noise import LabelNoise
from resnet_tl.evaluation.suspects import confused_pairs, suspects_of, suspects_table, write_suspects
from resnet_tl.files import from_cell

CLASSES = ("=cmd", " cat, grey", "<b>dog</b>")


def table() -> pd.DataFrame:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]])
    noise = LabelNoise(0.5, 0.1, 1.0, probabilities, np.array([0.0, 0.7, 0.9, 0.2]))
    return suspects_table(
        ["a.png", "b.png", "=c.png", "d.png"], np.array([0, 1, 0, 2]), CLASSES, noise, np.array([5, 7, 5, 9])
    )


def test_the_least_probable_label_comes_first() -> None:
    found = table()
    assert found["path"].tolist() == ["=c.png", "b.png", "d.png", "a.png"]
    assert found["suggested"].tolist() == [" cat, grey", "<b>dog</b>", "=cmd", " cat, grey"]
    assert found["suspect"].tolist() == ["yes", "yes", "no", "no"]
    assert found["copies"].tolist() == [1, 0, 0, 1]
    assert set(found["action"]) == {"keep"}


def test_the_pairs_are_those_of_suspects() -> None:
    assert len(suspects_of(table())) == 2
    assert confused_pairs(table()) == [(("=cmd", " cat, grey"), 1), ((" cat, grey", "<b>dog</b>"), 1)]


def test_the_file_opens_no_formula_and_gives_back_the_names(tmp_path: Path) -> None:
    write_suspects(table(), tmp_path / "suspects.csv")
    read = pd.read_csv(tmp_path / "suspects.csv", skipinitialspace=True)
    assert read["path"].tolist()[0] == "./=c.png"
    assert read["label"].tolist()[0] == "'=cmd"
    assert [from_cell(name) for name in read["label"]] == table()["label"].tolist()
