from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / "tiny"))


def test_a_fit_has_written_the_page_and_the_command_writes_it_again(command, run: Path):
    before = (run / "report.html").read_text(encoding="utf-8")
    (run / "report.html").unlink()

    done = command("report", run)

    assert done.code == 0
    assert "report.html: 0." in done.out
    after = (run / "report.html").read_text(encoding="utf-8")
    assert "<h1>tiny</h1>" in after
    assert after.count("data:image/jpeg") == before.count("data:image/jpeg") > 10


def test_a_file_that_holds_other_things_is_no_stack_trace(command, run: Path):
    (run / "environment.json").write_text('{"seconds": ["an hour"]}')

    done = command("report", run)

    assert done.code == 2
    assert "cannot be made of its files, one of which may be damaged: AttributeError" in done.err


def test_the_page_goes_where_it_is_asked_to(command, run: Path, tmp_path: Path):
    for file in ("report.html", "predictions/mistakes_val.csv", "figures/confusion_val.svg"):
        (run / file).unlink()
    before = sorted(run.rglob("*"))

    assert command("report", run, "-o", "pages/one.html").code == 0

    assert (tmp_path / "pages" / "one.html").is_file()
    assert sorted(run.rglob("*")) == before  # which may be one that cannot be written to


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/tinny"], "runs/tinny is not a run: there is no such folder. Did you mean 'tiny'?"),
        (["runs/tiny", "-o", "page.pdf"], "page.pdf is to be a .html file"),
        (["runs/tiny", "-o", "runs"], "name the file to write in it"),
        (["runs/tiny/model"], "it is a model bundle alone"),
        (["runs/tiny", "--dark"], "unrecognized arguments: --dark"),
    ],
)
def test_a_mistake_is_one_sentence(command, run: Path, words, said):
    done = command("report", *words)

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_run_that_is_not_finished_says_how_it_goes_on(command, run: Path):
    (run / "summary.json").unlink()

    done = command("report", run)

    assert done.code == 2
    assert "resnet-tl fit --resume" in done.err
