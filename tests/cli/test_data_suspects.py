from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.cli.main import main
from resnet_tl.run import Run


@pytest.fixture(scope="module")
def mixed_up(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colours, two of which lie in the folder of another; their names tell which."""
    root = tmp_path_factory.mktemp("mixed_up") / "photos"
    shutil.copytree(blobs, root)
    (root / "train" / "red" / "7.png").rename(root / "train" / "blue" / "is_red.png")
    (root / "val" / "green" / "0.png").rename(root / "val" / "red" / "is_green.png")
    return root


WRONG = ["train/blue/is_red.png", "val/red/is_green.png"]


@pytest.fixture(scope="module")
def found(mixed_up: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("found") / "suspects.csv"
    assert main(["data", "suspects", str(mixed_up), "--output", str(file)]) == 0
    return file


def test_the_wrong_labels_come_first_with_what_they_should_be(found: Path) -> None:
    table = pd.read_csv(found)
    assert len(table) == 44
    assert sorted(table["path"][:2]) == WRONG
    assert dict(zip(table["path"][:2], table["suggested"][:2], strict=True)) == dict(
        zip(WRONG, ["red", "green"], strict=True)
    )
    assert table["suspect"].tolist() == ["yes"] * 2 + ["no"] * 42
    assert set(table["action"]) == {"keep"}


def test_the_page_shows_them_and_needs_nothing_else(found: Path) -> None:
    page = found.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2
    assert "2 labels are suspect" in page
    assert "Suspicious labels (2)" in page
    assert "labelled blue, train" in page
    assert "looks like red, " in page
    assert not re.search("<script|https?:", page)


def test_the_terminal_says_how_to_go_on(mixed_up: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "suspects", str(mixed_up)]) == 0
    said = capsys.readouterr().out
    assert "2 labels are suspect: more probably wrong than right" in said
    assert re.search(r"share of wrong labels, as far as pictures show it: \d\.\d % \[\d+\.\d, \d+\.\d\]", said)
    assert f"--data.root {mixed_up} --data.relabel suspects.csv --data.exclude suspects.csv" in said


@pytest.fixture(scope="module")
def run(mixed_up: Path, found: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained with one label corrected and one image left out."""
    folder = tmp_path_factory.mktemp("runs")
    table = pd.read_csv(found)
    table.loc[table["path"] == WRONG[1], "action"] = "relabel"
    table.loc[table["path"] == WRONG[0], "action"] = "exclude"
    table.to_csv(folder / "edited.csv", index=False)
    edited = str(folder / "edited.csv")
    flags = [
        "--data.root",
        str(mixed_up),
        "--data.relabel",
        edited,
        "--data.exclude",
        edited,
        "--trainer.max_epochs",
        "1",
    ]
    assert main(["fit", "--recipe", "freeze_backbone", *flags, "--run", str(folder / "run")]) == 0
    return Run(folder / "run")


def test_a_fit_takes_what_a_person_has_decided(run: Run, mixed_up: Path) -> None:
    index = pd.read_csv(run.path / "data" / "index.csv").set_index("path")
    assert WRONG[0] not in index.index
    assert index.loc[WRONG[1], "label"] == "green"
    assert run.predictions("val").set_index("id").loc[WRONG[1], "label"] == "green"
    assert Path(run.recipe["data"]["relabel"]).is_absolute()


def test_of_a_run_its_own_images_and_labels_are_judged(run: Run, tmp_path: Path, capsys) -> None:
    assert main(["data", "suspects", str(run.path), "--output", str(tmp_path / "suspects.csv")]) == 0
    table = pd.read_csv(tmp_path / "suspects.csv")
    assert len(table) == 43
    assert set(table["suspect"]) == {"no"}
    said = capsys.readouterr().out
    assert f"resnet-tl fit --recipe {run.recipe_file}" in said
    assert "takes the place of the one in use" in said
    assert "share of wrong labels: not known, since" in said
    assert "The least probable labels, none of them suspect" in (tmp_path / "suspects.html").read_text(encoding="utf-8")


def test_a_run_of_folds_has_judged_its_images_already(mixed_up: Path, tmp_path: Path, capsys) -> None:
    flags = ["--data.root", str(mixed_up / "train"), "--trainer.max_epochs", "6", "--folds", "2"]
    assert main(["fit", "--recipe", "freeze_backbone", *flags, "--run", str(tmp_path / "run")]) == 0
    assert main(["data", "suspects", str(tmp_path / "run"), "--output", str(tmp_path / "suspects.csv")]) == 0
    table = pd.read_csv(tmp_path / "suspects.csv")
    assert len(table) == 24
    assert table["path"][0] == "blue/is_red.png"
    assert "judged by the 2 networks" in capsys.readouterr().out
    assert main(["data", "suspects", str(tmp_path / "run"), "--folds", "3", "-o", str(tmp_path / "three.csv")]) == 0
    assert "judged by 3 heads" in capsys.readouterr().out
    file = tmp_path / "run" / "predictions" / "val.csv"
    whole = file.read_text()
    file.write_text(re.sub(r"0\.\d+", "nan", whole, count=2))
    assert "holds probabilities that are no numbers" in refused(
        [str(tmp_path / "run"), "-o", str(tmp_path / "b.csv")], capsys
    )
    file.write_text(whole)
    shutil.move(mixed_up / "train", mixed_up / "moved")
    try:
        assert main(["data", "suspects", str(tmp_path / "run"), "--output", str(tmp_path / "again.csv")]) == 2
        assert "does not exist, where the images of" in capsys.readouterr().err
    finally:
        shutil.move(mixed_up / "moved", mixed_up / "train")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["data", "suspects", *words]) == 2
    return capsys.readouterr().err


def test_a_table_that_was_edited_is_not_written_over(mixed_up: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "suspects.csv").write_text("path,action\n")
    said = refused([str(mixed_up), "-o", str(tmp_path / "suspects.csv")], capsys)
    assert "suspects.csv has been edited since it was written; name another place by --output" in said


def test_a_mistake_is_one_sentence(mixed_up: Path, run: Run, blobs: Path, tmp_path: Path, capsys) -> None:
    at = ["--output", str(tmp_path / "suspects.csv")]
    assert "does not exist" in refused([str(tmp_path / "nowhere"), *at], capsys)
    assert "--folds is 1; it must be 2 or more" in refused([str(mixed_up), "--folds", "1", *at], capsys)
    assert "there are no weights: name a network" in refused([str(mixed_up), "--weights", "none", *at], capsys)
    assert "There is no weights file, run or bundle no.safetensors" in refused(
        [str(mixed_up), "--network", "resnet18", "--weights", "no.safetensors", *at], capsys
    )
    assert "leave out --layout" in refused([str(run.path), "--layout", "class_folders", *at], capsys)
    assert "is to be a .csv file" in refused([str(mixed_up), "--output", str(tmp_path / "suspects.txt")], capsys)
    one_class = refused([str(blobs / "train" / "red"), *at], capsys)
    assert "--data." not in one_class
    assert not list(tmp_path.iterdir())


def test_a_class_of_one_image_is_not_judged_and_said(blobs: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(blobs / "train", tmp_path / "photos")
    (tmp_path / "photos" / "rare").mkdir()
    shutil.copy(blobs / "val" / "red" / "0.png", tmp_path / "photos" / "rare" / "0.png")
    assert main(["data", "suspects", str(tmp_path / "photos"), "-o", str(tmp_path / "suspects.csv")]) == 0
    assert "not judged, for no other images of the class are there: rare" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "suspects.csv")) == 24
