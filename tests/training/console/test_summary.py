from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.run import Run
from resnet_tl.terminal import Screen
from resnet_tl.training.console.summary import print_summary


@pytest.fixture
def run(tmp_path: Path) -> Run:
    metrics = {"loss": 0.7435, "accuracy": 0.6625, "balanced_accuracy": 0.6, "macro_f1": 0.59, "auroc": 0.949}
    accuracy = Accuracy(80, 53, 0.554, 0.757, "clover", 16, 5, ("violet",))
    summary = {
        "best_epoch": 2,
        "monitor": "val_macro_f1",
        "metrics": {"val": metrics},
        "accuracy": {"val": accuracy.facts()},
    }
    environment = {"seconds": {"start-up": 9.0, "training": 3.0}, "advice": "Most of the time: start-up."}
    for name, facts in (("summary", summary), ("environment", environment)):
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    pd.DataFrame({"epoch": [1, 2, 3]}).to_csv(tmp_path / "metrics.csv", index=False)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mistakes_val.png").touch()
    return Run(tmp_path)


def printed(run: Run, width: int = 80, verbose: bool = False) -> list[str]:
    screen = Screen(Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None))
    print_summary(run, ["resnet-tl predict runs/a IMAGES"], verbose, screen)
    return [line.rstrip() for line in screen.console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_end_leads_with_what_matters_and_ends_with_the_next_command(run):
    lines = printed(run)

    assert lines[1] == "Best epoch: 2 of 3, by validation macro F1"
    assert lines[3:5] == [
        "images                    80",
        "accuracy [95 % interval]  66.2 % [55.4, 75.7]",
    ]
    text = "\n".join(lines)
    assert "Careful, validation: 1 of the 5 classes has no image" in text
    assert "Always saying clover would reach 20.0 %." in text
    assert "To know the accuracy within ±5 points: about 340 validation images." in text
    assert lines[-2:] == ["Took 12 s. Most of the time: start-up.", "Next: resnet-tl predict runs/a IMAGES"]
    assert not any("0.6625" in line for line in lines)


def test_the_parts_of_the_time_are_shown_on_request(run):
    assert not any(line.startswith("start-up ") for line in printed(run))
    assert any(line.split() == ["start-up", "9.0", "75", "%"] for line in printed(run, verbose=True))


def test_no_mistake_is_said_to_be_none(run):
    (run.path / "figures" / "mistakes_val.png").unlink()
    summary = json.loads((run.path / "summary.json").read_text())
    summary["accuracy"]["val"] |= {"correct": 80}
    (run.path / "summary.json").write_text(json.dumps(summary))

    assert "mistakes  none" in printed(Run(run.path))


@pytest.mark.parametrize("width", [40, 80, 160])
def test_it_fits_into_any_terminal(run, width):
    assert max(map(len, printed(run, width))) <= width
