"""The benchmarks compile, and those that compare toolkits answer `--help` without torch."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.relative_to(BENCHMARKS).as_posix() for path in BENCHMARKS.rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_compiles(script: str) -> None:
    compile((BENCHMARKS / script).read_text(encoding="utf-8"), script, "exec")


@pytest.mark.parametrize(
    "script", ["speed.py", "time_to_accuracy.py", "ablation.py", "cifar_training.py", "frozen_forward.py", "gpu.py"]
)
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
        (tmp_path / "flat" / name).write_bytes(name.encode())

    counts = link_photos(tmp_path / "flat", tmp_path / "linked", left_out=["dog.gone.gif"])

    assert counts == {"train": 3, "val": 2}
    linked = sorted(path.relative_to(tmp_path / "linked").as_posix() for path in (tmp_path / "linked").rglob("*.jpg"))
    train = ["train/cat/cat.1.jpg", "train/cat/cat.2.jpg", "train/dog/dog.1.jpg"]
    assert linked == [*train, "val/cat/cat.0.jpg", "val/dog/dog.0.jpg"]


def test_a_copy_of_a_training_photo_is_not_validated_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from photo_folders import link_photos

    for name, photo in {"cat.0.jpg": "a", "cat.1.jpg": "a", "dog.0.jpg": "b", "dog.1.jpg": "c"}.items():
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / name).write_bytes(photo.encode())

    counts = link_photos(tmp_path / "flat", tmp_path / "linked")

    assert counts == {"train": 3, "val": 1}
    assert [path.name for path in (tmp_path / "linked" / "val").rglob("*.jpg")] == ["dog.0.jpg"]


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


def test_an_ablation_pairs_seeds_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from ablation import difference

    generator = np.random.default_rng(0)
    found = difference(0.1 + generator.normal(0, 0.2, (4, 500)), "nll")

    assert found["nll_difference"] == pytest.approx(0.1, abs=0.02)
    assert found["nll_difference_low"] == pytest.approx(0.1 - 1.96 * 0.1 / 500**0.5, abs=0.01)  # the mean of 4 seeds
    assert found["nll_difference_high"] == pytest.approx(0.1 + 1.96 * 0.1 / 500**0.5, abs=0.01)
    assert found["nll_difference_seeds_95"] < 0.05


def test_accuracies_for_a_time_come_from_the_predictions_and_show_a_peers_best_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from accuracy_table import Result, report

    (tmp_path / "predictions").mkdir()
    runs = {"ours": ("ours", "", 9, 60.0), "a": ("timm", "128 px", 6, 61.0), "b": ("timm", "224 px", 7, 90.0)}
    with (tmp_path / "measurements.jsonl").open("w", encoding="utf-8") as lines:
        for name, (contestant, how, correct, wall) in runs.items():
            result = Result(name, contestant, how, 1.0, 0, 3, wall=wall, cpu=wall, memory=1, load=0.0)
            lines.write(json.dumps(asdict(result)) + "\n")
            images = [f"cat/{i}.jpg,cat,{0.8 if i < correct else 0.2},{0.2 if i < correct else 0.8}" for i in range(10)]
            if contestant == "ours":  # its names may have the split in front, and its rows another order
                images = [f"val/{image}" for image in reversed(images)]
            table = "\n".join(["id,label,prob_cat,prob_dog", *images]) + "\n"
            (tmp_path / "predictions" / f"{name}.csv").write_text(table, encoding="utf-8")

    report(tmp_path, "ten cats", {"cores": 2}, "here")

    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| 1 min | ours | 0.9000 | 0.596–0.982 | 0.362 |" in table
    assert "| 1 min | timm | 0.7000 | 0.397–0.892 | 0.639 | +0.2000 |" in table
    assert "| 1.5 (over) | 1.5 | 3 | 224 px (best of 2) |" in table
    with (tmp_path / "time_to_accuracy-here.csv").open(encoding="utf-8", newline="") as file:
        shown = {row["name"]: row["is_shown"] for row in csv.DictReader(file)}
    assert shown == {"ours": "True", "a": "False", "b": "True"}
    assert (tmp_path / "plot.png").stat().st_size > 5_000


@pytest.mark.slow
def test_the_gpu_script_tries_itself_out_without_a_gpu(tmp_path: Path):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--minutes", "12", "--output", tmp_path / "gpu"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["results"]
    parts = ["tests", "fits", "kept activations", "precision", "training", "tiny images"]
    assert list(dict.fromkeys(result["part"] for result in results)) == parts
    left_out = {result["case"] for result in results if "left out" in result}
    assert left_out == {"tests", "resnet18, channels_last, compiled", "resnet50, channels_last, compiled"}
    speeds = {result["case"]: result for result in results if "ratio" in result}
    assert set(speeds) == {"resnet18, channels_last", "resnet50, channels_last", "resnet20, 32 px"}
    assert all(found["images/s"] > 0 and found["ratio"] > 0 for found in speeds.values())
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {result['part']} | {result['case']} |" in table for result in results)


def test_the_gpu_script_goes_on_after_an_error_and_says_what_it_left_out(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    signal.signal(signal.SIGALRM, gpu.time_is_up)
    bench = gpu.Bench(tmp_path, gpu.SMALL, "cpu")

    def fails() -> None:
        raise ValueError("no such kernel")

    cases = {"broken": fails, "good": lambda: {"images/s": 1234.5}, "slow": lambda: time.sleep(60), "next": fails}
    gpu.run_part(bench, "part", lambda _: cases, end=time.perf_counter() + 0.5)

    broken, good, slow, following = bench.results
    assert broken["error"] == "ValueError: no such kernel"
    assert "in fails" in broken["traceback"]
    assert good["images/s"] == 1234.5
    assert slow["left out"].startswith("the time of this part was up, ")
    assert slow["seconds"] < 30
    assert following["left out"] == "the time of this part was up, 0 s into this case"
    assert "| part | good | images/s: 1,234 |" in capsys.readouterr().out
