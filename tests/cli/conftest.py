"""Running commands in this process, and one small run for those that read a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from resnet_tl.cli.main import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`command("predict", run, image)` runs it in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["resnet-tl", *(str(word) for word in words)])
        try:
            code = main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on the blobs."""
    folder = tmp_path_factory.mktemp("tiny") / "runs" / "tiny-1"
    flags = ["--data.root", str(blobs), "--trainer.max_epochs", "2", "--run", str(folder)]
    assert main(["fit", "--recipe", "freeze_backbone", *flags]) == 0
    return folder
