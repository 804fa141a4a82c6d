"""Names that would steer a terminal, a page, a figure or a spreadsheet; and names that are only unusual."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.reading.layouts import from_dataframe, read_images, unlabelled
from resnet_tl.errors import CONTROLS, UserError
from resnet_tl.evaluation.figures import confusion_matrix, contact_sheet
from resnet_tl.evaluation.predictions import prediction_table, read_predictions, write_predictions

pytestmark = pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")

FORBIDDEN = [
    "\x1b[2J", "\x1b]0;title\x07", "a\nb", "a\rb", "a\tb", "\x7f", "\x9b31m", "\u202egpj.exe", "\u2066a", "a\u2028b", "\x08"
]  # fmt: skip
UNUSUAL = [
    "=HYPERLINK(a)", "+cmd|' C'!A0", "-2+3", "@SUM(A1)", "'quoted", "'=1", 'say "x"', "a,b", "a;b", "<script>alert(1)",
    "<img src=x onerror=alert(1)>", "[red]x[", "[bold]b", "[x](y)", "$\\frac{", "$x^{", "%s %d {0}", "{class}", "NA",
    "nan", "007", "1.0", "None", "😀", "👩‍👩‍👧", "日本語", "עברית", "e\u0301", "\u00e9", "e" + "\u0301" * 60, "x" * 200,
    "*?[a]", "~", "a..", "con", "`id`", "$(id)", "&amp;", "a|b", "--help", "-1",
]  # fmt: skip


def photo(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(os.fsencode(path))).integers(0, 99, (16, 16, 3), dtype=np.uint8) + colour
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.parametrize("name", FORBIDDEN, ids=ascii)
@pytest.mark.parametrize("of", ["file", "class", "root"])
def test_control_characters_in_names_are_refused_and_not_printed(
    name: str, of: str, tmp_path: Path, command, is_one_sentence
) -> None:
    root = tmp_path / (name if of == "root" else "data")
    photo(root / (name if of == "class" else "cat") / (f"{name}.png" if of == "file" else "1.png"))
    photo(root / "dog" / "1.png")
    with pytest.raises(UserError, match="control character"):
        read_images(root)
    with pytest.raises(UserError, match="control character"):
        unlabelled(root)
    done = command("data", "show", root, "--output", tmp_path / "sheet.png")
    assert done.code == 2
    assert is_one_sentence(done.err)
    assert not CONTROLS.search(done.err.rstrip())


def test_control_characters_in_tables_words_and_paths_are_not_printed(tmp_path: Path, command) -> None:
    import pandas as pd

    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    for column in ("label", "group"):
        frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["cat", "dog"], "group": ["1", "2"]})
        frame.loc[0, column] = "x\x1b[2Jy"
        with pytest.raises(UserError, match="control character") as caught:
            from_dataframe(frame, tmp_path)
        assert not CONTROLS.search(str(caught.value))
    evil = "\x1b[2J\x07"
    for words in (("predict", evil, evil), ("fit", "--data.root", evil), ("fit", "--recipe", evil), (evil,),
                  ("fit", f"--{evil}", "1"), ("compare", evil, evil), ("networks", "show", evil), ("data", "fetch", evil),
                  ("recipes", "show", evil), ("validate", evil), ("predict", "a", "b", f"--{evil}"), ("cache", evil)):  # fmt: skip
        done = command(*words)
        assert done.code == 2, words
        assert not CONTROLS.search((done.out + done.err).replace("\n", "")), (words, done.err)


def test_bytes_that_are_no_utf8_are_refused_in_files_classes_and_roots(
    tmp_path: Path, command, is_one_sentence
) -> None:
    bad = os.fsdecode(b"caf\xe9")
    for number, parts in enumerate(
        ((f"{number}" for number in range(0)), (bad, "cat", "1"), ("data", bad, "1"), ("data2", "cat", bad))
    ):
        parts = tuple(parts)
        if not parts:
            continue
        root = tmp_path / str(number) / parts[0]
        try:
            photo(root / parts[1] / f"{parts[2]}.png")
        except OSError:
            pytest.skip("this file system keeps Unicode names only")
        photo(root / "dog" / "1.png")
        for words in (("data", "show", root), ("fit", "--data.root", root)):
            done = command(*words)
            assert done.code == 2
            assert is_one_sentence(done.err)
            assert "not UTF-8" in done.err


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Every unusual name as a class and as a file, learnt by the real command: the images and the run."""
    folder = tmp_path_factory.mktemp("unusual")
    for place, name in enumerate(UNUSUAL):
        for split, count in (("train", 2), ("val", 1)):
            for number in range(count):
                photo(folder / "data" / split / name / f"{name[:100]}{number}.png", colour=3 * place)
    words = [
        "--data.root",
        folder / "data",
        "--model.network",
        "resnet20",
        "--model.weights",
        "none",
        "--data.image_size",
        16,
    ]
    words += [
        "--model.mode",
        "head",
        "--trainer.max_epochs",
        1,
        "--trainer.accelerator",
        "cpu",
        "--run",
        folder / "run",
    ]
    done = subprocess.run([sys.executable, "-m", "resnet_tl", "fit", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "data", folder / "run"


def test_unusual_names_go_through_fit_tables_bundle_and_prediction(unusual, tmp_path: Path, command) -> None:
    data, run = unusual
    assert sorted(Bundle.open(run).classes) == sorted(UNUSUAL)
    table = read_predictions(run / "predictions" / "val.csv")
    assert sorted(table["label"]) == sorted(UNUSUAL)
    assert sorted(table["id"]) == sorted(f"val/{name}/{name[:100]}0.png" for name in UNUSUAL)
    done = command("predict", run, data / "val", "--output", tmp_path / "p.csv")
    assert done.code == 0, done.err
    assert sorted(read_predictions(tmp_path / "p.csv")["id"]) == sorted(f"{name}/{name[:100]}0.png" for name in UNUSUAL)
    for words in (("predict", run, data / "val"), ("validate", run), ("data", "show", data, "--output", tmp_path / "s.png"),
                  ("test", run, "--root", data / "val")):  # fmt: skip
        done = command(*words)
        assert done.code == 0, (words, done.err)
        for name in UNUSUAL:
            if len(name) < 30 and words[0] in ("validate", "data"):
                assert name in done.out, (words, name)  # as it is, neither lost as a style nor obeyed


def test_no_cell_that_we_write_is_a_formula(unusual, tmp_path: Path, command) -> None:
    """Names are written by `as_cell`: the rule stands in resnet_tl/files.py."""
    data, run = unusual
    shutil.copytree(run, tmp_path / "=run-1")
    shutil.copytree(run, tmp_path / "@run-2")
    (tmp_path / "@run-2" / "recipe.yaml").write_text((run / "recipe.yaml").read_text() + "\n")
    command("predict", run, data / "val" / "=HYPERLINK(a)", "--output", tmp_path / "p.csv")
    done = command("compare", tmp_path / "=run-1", tmp_path / "@run-2", "--output", tmp_path / "c")
    assert done.code == 0, done.err
    command("data", "check", data, "--output", tmp_path / "checked")
    files = [
        *run.rglob("*.csv"),
        *(tmp_path / "c").glob("*.csv"),
        *(tmp_path / "checked").glob("*.csv"),
        tmp_path / "p.csv",
    ]
    assert len(files) >= 6
    for file in files:
        with file.open(encoding="utf-8", newline="") as opened:
            for cell in (cell for row in csv.reader(opened) for cell in row):
                assert not re.match(r"[=+\-@\t\r]", cell) or re.fullmatch(r"[+-][\d.]+(e[+-]?\d+)?", cell), (file, cell)


def test_a_list_of_images_to_leave_out_finds_names_that_look_like_formulas(unusual, tmp_path: Path, command) -> None:
    """What the check writes is understood when it is given back."""
    photo(tmp_path / "data" / "=1+1" / "a.png")
    photo(tmp_path / "data" / "=1+1" / "b.png", 9)
    photo(tmp_path / "data" / "x" / "c.png", 99)
    shutil.copy(tmp_path / "data" / "=1+1" / "a.png", tmp_path / "data" / "=1+1" / "copy of a.png")
    assert command("data", "check", tmp_path / "data", "--output", tmp_path).code in (0, 1)
    assert "exclude" in (tmp_path / "findings.csv").read_text()
    done = command(
        "data", "check", tmp_path / "data", "--exclude", tmp_path / "findings.csv", "--output", tmp_path / "b"
    )
    assert done.code in (0, 1), done.err


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_html_in_names_stays_text(unusual, tmp_path: Path, command) -> None:
    data, run = unusual
    command("data", "check", data, "--output", tmp_path)
    tags = Tags()
    tags.feed((tmp_path / "findings.html").read_text(encoding="utf-8"))
    assert not {tag for tag, _ in tags.found} & {"script", "iframe", "object", "svg", "link", "base", "form"}
    assert all(str(facts["src"]).startswith("data:image/jpeg") for tag, facts in tags.found if tag == "img")
    assert not any(name.startswith("on") for _, facts in tags.found for name in facts)
    one, other = tmp_path / "<script>alert(1)<b>", tmp_path / "other"
    for folder in (one, other):
        shutil.copytree(run, folder)
    done = command("compare", one, other, "--output", tmp_path / "c")
    assert done.code == 0, done.err
    text = (tmp_path / "c" / "comparison.md").read_text()
    assert "&lt;script>" in text
    assert not re.search(r"<[a-zA-Z/!?]", text)


def test_figures_draw_whatever_a_class_is_called(tmp_path: Path) -> None:
    logits = np.eye(len(UNUSUAL))
    table = prediction_table(UNUSUAL, UNUSUAL, np.arange(len(UNUSUAL)), logits, UNUSUAL)
    confusion_matrix(table, tmp_path / "c.png")
    contact_sheet({name: [np.zeros((8, 8, 3), np.uint8)] for name in UNUSUAL}, tmp_path / "s.png", "$\\frac{")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_spellings_of_one_letter_are_two_names_and_are_told_apart(tmp_path: Path) -> None:
    """é as one character and as two: kept apart as the file system does, and never normalised."""
    composed, decomposed = "\u00e9", "e\u0301"
    assert unicodedata.normalize("NFC", decomposed) == composed
    photo(tmp_path / composed / "1.png")
    photo(tmp_path / decomposed / "1.png", 99)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes them for one")
    assert read_images(tmp_path).classes == (decomposed, composed)


def test_the_longest_names_that_a_file_system_takes(tmp_path: Path) -> None:
    name = "😀" * 62 + "abc"  # 251 bytes
    photo(tmp_path / name / f"{name}.png"[-255:])
    photo(tmp_path / "b" / "1.png")
    index = read_images(tmp_path)
    assert name in index.classes
    table = prediction_table(index.ids(), index.ids(), index.labels, np.eye(2), index.classes)
    write_predictions(table, tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv")["id"].tolist() == index.ids()


WRITTEN = ["summary.json", "data/facts.json", "environment.json", "data/index.csv", "metrics.csv", "recipe.yaml",
           "predictions/val.csv", "model/model.json"]  # fmt: skip


def damages(whole: bytes) -> list[bytes]:
    return [b"", b"\xff\xfe\x00", b"[1, 2]", b"null", b"{" * 10_000, b"a,b\n1,2\n", whole[: len(whole) // 2]]


def refused_or_done(run: Path, other: Path, name: str, content: bytes, command) -> None:
    (run / name).write_bytes(content)
    for words in (("validate", run), ("compare", run, other, "--output", run.parent / "c"), ("report", run)):
        done = command(*words)
        assert done.code in (0, 2), (name, content[:20], words)
        assert "Traceback" not in done.err


def test_metadata_of_a_run_from_a_stranger_are_refused_when_damaged(unusual, tmp_path: Path, command) -> None:
    """Each file with one of the damages in its turn; the slow test does all."""
    run = shutil.copytree(unusual[1], tmp_path / "run")
    for number, name in enumerate(WRITTEN):
        whole = (run / name).read_bytes()
        refused_or_done(run, unusual[1], name, damages(whole)[number % 7], command)
        (run / name).write_bytes(whole)
    assert json.loads((run / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_every_damage_to_metadata_is_refused(unusual, tmp_path: Path, command, name: str) -> None:
    run = shutil.copytree(unusual[1], tmp_path / "run")
    for content in damages((run / name).read_bytes()):
        refused_or_done(run, unusual[1], name, content, command)
