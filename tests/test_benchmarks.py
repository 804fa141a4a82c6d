"""The benchmarks compile, and those that compare toolkits answer `--help` without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.relative_to(BENCHMARKS).as_posix() for path in BENCHMARKS.rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_compiles(script: str) -> None:
    compile((BENCHMARKS / script).read_text(encoding="utf-8"), script, "exec")


@pytest.mark.parametrize("script", ["speed.py", "cifar_training.py", "frozen_forward.py"])
def test_help_needs_no_torch(script: str) -> None:
    asks = f"import runpy, sys; sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv = [{script!r}, '--help']\n"
    asks += f"try: runpy.run_path({str(BENCHMARKS / script)!r}, run_name='__main__')\n"
    asks += "except SystemExit: assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage:")


def test_photos_of_any_layout_are_linked_as_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from photo_folders import link_photos

    for name in ("cat.0.jpg", "cat.1.jpg", "cat.2.jpg", "dog.0.jpg", "dog.1.jpg", "dog.gone.gif"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / name).write_bytes(b"photo")

    counts = link_photos(tmp_path / "flat", tmp_path / "linked", left_out=["dog.gone.gif"])

    assert counts == {"train": 3, "val": 2}
    linked = sorted(path.relative_to(tmp_path / "linked").as_posix() for path in (tmp_path / "linked").rglob("*.jpg"))
    train = ["train/cat/cat.1.jpg", "train/cat/cat.2.jpg", "train/dog/dog.1.jpg"]
    assert linked == [*train, "val/cat/cat.0.jpg", "val/dog/dog.0.jpg"]


def test_epochs_that_were_not_run_are_extrapolated_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from speed_table import Measurement, summarise

    result = {"val_accuracy": 0.9, "trained": {"batch_norms": 20, "batch_norm_weights": 0, "batch_norm_statistics": 0}}
    result["trained"] |= {"stages": ["head"], "parameters": 1026}
    runs = [Measurement("timm", epochs, 0, wall, 2 * wall, 1, 0.0, result) for epochs, wall in ((1, 12.0), (2, 19.0))]

    (row,) = summarise(runs, epochs=10, images=100)

    assert row.wall == 12 + 9 * 7
    assert row.cpu == 2 * row.wall
    assert row.is_extrapolated
