"""docs/your_own_parts.md and in_python.md: every block runs, as it stands, in a folder with the images `photos`."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from resnet_tl.cli.main import main
from resnet_tl.run import Run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your_own_parts.md"


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(heading above it, language, text) of each block of code."""
    parts = re.split(r"^```(\w*)\n", page, flags=re.MULTILINE)  # prose, language, text, "", prose, ...
    found, heading = [], ""
    for prose, language, text in zip(parts[0::4], parts[1::4], parts[2::4], strict=False):
        heading = [heading, *re.findall(r"^##+ (.+)$", prose, flags=re.MULTILINE)][-1]
        found.append((heading, language, text))
    return found


BLOCKS = blocks(PAGE.read_text())
PROGRAMS = [(title, text) for title, kind, text in BLOCKS if kind == "python" and not text.startswith("# my_parts")]


@pytest.fixture
def here(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files and the images, as the current one."""
    (tmp_path / "photos").symlink_to(blobs)
    for _, kind, text in BLOCKS:
        if kind in ("python", "yaml") and (found := re.match(r"# (my_\w+\.\w+)\n", text)):
            (tmp_path / found[1]).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    monkeypatch.setattr("resnet_tl.user_code._allowed", {})
    return tmp_path


def test_the_page_has_a_block_for_each_part():
    assert len(PROGRAMS) == 6
    assert [kind for _, kind, _ in BLOCKS].count("sh") == 1


def test_a_recipe_names_parts_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]):
    commands = next(text for _, kind, text in BLOCKS if kind == "sh").splitlines()

    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err

    run = Run("runs/mine")
    assert run.summary["monitor_mode"] == "max"
    assert "val_multiclass_cohen_kappa" in run.history
    assert run.bundle.network["import"] == "my_parts.TinyNet"
    assert str(here) not in (run.path / "model" / "model.json").read_text()


def test_a_bundle_does_not_run_code_by_itself(here: Path, capsys: pytest.CaptureFixture[str]):
    fit, predict = next(text for _, kind, text in BLOCKS if kind == "sh").splitlines()
    assert main(shlex.split(fit)[1:]) == 0
    capsys.readouterr()

    assert main(shlex.split(predict.partition(" --import")[0])[1:]) == 2

    assert "--import my_parts" in capsys.readouterr().err


@pytest.mark.parametrize(("title", "program"), PROGRAMS, ids=[title for title, _ in PROGRAMS])
def test_a_program_of_the_page_runs(here: Path, title: str, program: str):
    exec(compile(program, title, "exec"), {"__name__": "a_program"})


def test_the_program_of_the_page_on_python_runs(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "")  # so that it is put back
    ((_, _, program),) = blocks(PAGE.with_name("in_python.md").read_text())
    exec(compile(program, "in_python", "exec"), {"__name__": "a_program"})
