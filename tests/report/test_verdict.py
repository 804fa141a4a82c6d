"""What the page says first; the numbers behind it are evaluation's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.report.baselines import beside_the_best, judges
from resnet_tl.report.evidence import Evidence
from resnet_tl.report.probabilities import trust
from resnet_tl.report.verdict import Verdict, _weakest, verdict
from resnet_tl.run import Run
from tests.report.conftest import MakeRun, predictions


def said_of(run: Run) -> Verdict:
    table = run.predictions()
    compared = judges(table, Evidence.of(run, "val"))
    counts = pd.crosstab(table["label"], table["predicted"]).to_numpy()
    return verdict(run, compared, "val", None, trust(table), [], counts)


def beside(run: Run, wrong: int, is_head: bool = False) -> str:
    """What is said beside a probe with so many mistakes on the same images."""
    table = run.predictions()
    probe = predictions(run.path, run.data_facts["classes"], len(table), wrong)
    return beside_the_best(judges(table, Evidence(baselines={"probe": probe})), is_head)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (60, "better than a linear probe of pretrained features (80.0 %) by 17.0 points [13.0, 21.0]"),
        (10, "not told apart from a linear probe of pretrained features (96.7 %): 0.3 points [0.0, 1.3], "
             "so that fine-tuning is not shown to help"),
        (9, "the same as a linear probe of pretrained features (97.0 %)"),
        (0, "worse than a linear probe of pretrained features (100.0 %) by 3.0 points [1.3, 5.0]"
            ": fine-tuning did not help"),
    ],
)  # fmt: skip
def test_the_model_is_judged_beside_the_best_of_its_baselines(make_run: MakeRun, wrong, expected):
    run = make_run(images=300, wrong=9, drawn=0)

    assert beside(run, wrong) == expected


def test_of_a_head_alone_nothing_is_said_of_fine_tuning(make_run: MakeRun):
    assert beside(make_run(images=300, drawn=0), 0, is_head=True).endswith("points [1.3, 5.0]")


def test_beside_the_most_common_class_nothing_is_said_of_fine_tuning(make_run: MakeRun):
    table = make_run(images=60, wrong=40, drawn=0).predictions()

    said = beside_the_best(judges(table, Evidence()), is_head=False)

    assert said.startswith("not told apart from always saying ants (33.3 %)")
    assert "fine-tuning" not in said


def test_a_baseline_of_other_images_or_labels_is_not_compared_with(make_run: MakeRun):
    table = make_run(drawn=0).predictions()

    others = [table.iloc[1:], table.assign(id="x" + table["id"]), table.assign(label=table["label"].to_numpy()[::-1])]
    for other in others:
        assert len(judges(table, Evidence(baselines={"probe": other}))) == 2
    assert len(judges(table, Evidence(baselines={"probe": table.sample(frac=1, random_state=0)}))) == 3


def test_the_verdict_is_two_sentences_and_there_always_is_a_caution(make_run: MakeRun):
    found = said_of(make_run(images=300, wrong=9, drawn=0))

    assert found.result == (
        "97.0 % [94.4, 98.4] of the 300 validation images are judged correctly, better than always saying ants "
        "(33.3 %) by 63.7 points [57.7, 69.3]."
    )
    assert found.caution.startswith("Careful: ")
    assert found.caution.count(".") == 1 + found.caution.count("%")


def test_few_images_are_the_gravest_caution(make_run: MakeRun):
    assert said_of(make_run(images=12, wrong=1, drawn=0)).caution.startswith("Careful: 12 images alone")


def test_a_model_that_is_no_better_than_the_most_common_class_is_said_to_be_so(make_run: MakeRun):
    found = said_of(make_run(images=60, wrong=40, drawn=0))

    assert found.caution == "Careful: nothing shows that the model is better than always saying ants."


def test_a_class_that_is_judged_worse_than_the_rest_is_named(make_run: MakeRun):
    run = make_run(images=300, wrong=0, drawn=0)
    table = run.predictions()
    wrong = (table["label"] == "wasps") & (np.arange(300) < 120)
    swapped = table.assign(
        prob_ants=table["prob_ants"].mask(wrong, table["prob_wasps"]),
        prob_wasps=table["prob_wasps"].mask(wrong, table["prob_ants"]),
    )
    shares = swapped.filter(like="prob_")
    swapped["predicted"] = shares.idxmax(axis=1).str.removeprefix("prob_")
    run.predictions_file("val").unlink()
    from resnet_tl.evaluation.predictions import write_predictions

    write_predictions(swapped, run.predictions_file("val"))
    found = said_of(run)

    assert any("asps is judged correctly in 60.0 %" in line for line in (found.caution, *found.further))


def test_of_many_classes_the_worst_by_chance_is_not_named():
    """Where 36 of 40 are usual, 28 is no chance for one of five classes, 29 is for one of a hundred."""
    for right, classes, is_named in ((28, 5, True), (29, 100, False)):
        correct = np.full(classes, 36)
        correct[0] = right
        own = Accuracy(40 * classes, int(correct.sum()), 0.8, 0.95, "c0", 40, classes, ())
        names = [f"c{number}" for number in range(classes)]
        counts = np.diag(correct) + np.roll(np.diag(40 - correct), 1, axis=1)
        assert bool(_weakest(names, counts, own)) is is_named


def test_the_penalty_of_a_solved_head_is_no_epoch(make_run: MakeRun):
    run = make_run(drawn=0)
    settings = yaml.safe_load(run.recipe_file.read_text())
    settings["model"] = {"mode": "head", "head_solver": "lbfgs"}
    run.recipe_file.write_text(yaml.safe_dump(settings))
    history = pd.read_csv(run.metrics_file).assign(learning_rate=0.0)
    history.to_csv(run.metrics_file, index=False)
    found = said_of(Run.open(run.path))

    assert any("the same images chose the penalty" in line.lower() for line in (found.caution, *found.further))
