"""What the user of a fresh run will probably type: a submission where a sample lies beside the images, a prediction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote

import numpy as np

from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table
from resnet_tl.inference.submission import build_submission
from resnet_tl.run import Run

UNLABELLED = re.compile(r"test|images|imgs", re.IGNORECASE)
"""In the name of a folder with the images of a competition's sample."""
SAMPLE = re.compile(r"(sample|submission|benchmark).*\.csv", re.IGNORECASE)
"""In the name of a competition's sample: `SampleSubmission.csv`, `all_zeros_benchmark.csv`."""


def next_command(run: Run, shown: str) -> list[str]:
    """The command for a run, `shown` so, tried as far as that goes without the network; perhaps a line about it."""
    facts = run.data_facts
    root, classes = Path(facts["root"]), facts["classes"]
    given = run.recipe.get("data", {}).get("root")
    places = list(dict.fromkeys((root, *([Path(given).parent] if given else []))))
    folders = list(_folders(root, places))
    for sample in sorted(file for place in places for file in place.glob("*") if SAMPLE.search(file.name)):
        for folder in folders:
            words = ["submit", shown, "--images", _typed(folder), "--sample", _typed(sample)]
            if _fits(sample, folder, classes, None):
                return [_line(*words, "-o", "submission.csv")]
            if len(classes) == 2 and _fits(sample, folder, classes, classes[1]):
                return [
                    _line(*words, "--positive", classes[1], "-o", "submission.csv"),
                    f"The sample asks for one probability: if it is that of {classes[0]}, give --positive "
                    f"{quote(classes[0])}.",
                ]
    tests = [folder for folder in folders if "test" in folder.name.lower() and "test" not in facts["counts"]]
    return [_line("predict", shown, _typed(tests[0])) if tests else f"{_line('predict', shown)} IMAGES"]


def _folders(root: Path, places: list[Path]) -> Iterator[Path]:
    """Folders beside the root, or two deep in it, in which a sample's images may lie, those called test first."""
    found = {folder for place in places if place.is_dir() for folder in place.glob("*/")} | set(root.glob("*/*/"))
    named = [folder for folder in found if UNLABELLED.search(folder.name)]
    yield from sorted(named, key=lambda folder: ("test" not in folder.name.lower(), folder))


def _fits(sample: Path, folder: Path, classes: list[str], positive: str | None) -> bool:
    """Whether `submit` would take them: every id has an image, and the form is one that it knows."""
    with suppress(UserError, OSError):
        ids = unlabelled([folder]).ids()
        even = prediction_table(ids, ids, None, np.zeros((len(ids), len(classes))), classes)
        build_submission(even, sample, positive)
        return True
    return False


def _line(*words: str) -> str:
    return " ".join(("resnet-tl", *map(quote, words)))


def _typed(path: Path) -> str:
    from resnet_tl.terminal import shortest

    return shortest(path)
