"""`resnet-tl validate RUN`, and by the same code `resnet-tl test RUN`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser, add_answer_options
from resnet_tl.cli.averaging import add_averaging_options
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_reading_options, in_own_words, reading_of
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import printable, reason_of
from resnet_tl.files import check_target

if TYPE_CHECKING:
    import pandas as pd

    from resnet_tl.evaluation.uncertainty.abstention import Answers
    from resnet_tl.run import Run

MEASURED = ("precision", "recall", "f1", "auroc")


def main(argv: list[str], split: str = "val") -> int:
    """Evaluates one split and prints its metrics, over all and per class; 1 where a model gives other predictions."""
    command = {"val": "validate", "test": "test"}[split]
    parser = CommandParser(
        prog=f"resnet-tl {command}",
        description=f"The numbers of a run on its {split} images, or on other labelled images, from its best weights.",
        epilog=f"examples:\n  resnet-tl {command} runs/freeze_backbone-1\n"
        f"  resnet-tl {command} runs/freeze_backbone-1 --root more_photos\n"
        f"  resnet-tl {command} runs/freeze_backbone-1 --tta mirror\n"
        f"  resnet-tl {command} runs/freeze_backbone-1 --coverage 0.9 --min_confidence 0.8",
    )
    run = "a run; with --root a model bundle too; of several their average is judged"
    parser.add_argument("run", metavar="RUN", nargs="+", type=Path, help=run)
    parser.add_argument("--root", type=Path, help=f"other labelled images: their {split} split, or all of them")
    add_reading_options(parser)
    add_averaging_options(parser)
    add_answer_options(parser)
    parser.add_argument("-o", "--output", type=Path, help="write the prediction table to this CSV file")
    arguments = parser.parse_args(argv)
    if arguments.output:
        check_target(arguments.output)

    with loading():
        from resnet_tl.bundle import Bundle
        from resnet_tl.evaluation.accuracy import Accuracy, number_rows, warning_lines
        from resnet_tl.evaluation.metrics import per_class
        from resnet_tl.evaluation.predictions import write_predictions
        from resnet_tl.inference.answers import measured_lines
        from resnet_tl.inference.scoring import score
        from resnet_tl.inference.verifying import verified
        from resnet_tl.run import Run, bundles_of

    runs, tta = arguments.run, arguments.tta
    is_own = split == "val" and arguments.root is None
    answers = _answers(arguments)  # fails before the images are judged
    with in_own_words(root="--root "):
        table, metrics = score(runs, split, arguments.root, reading_of(arguments), tta, arguments.average)
    accuracies = {split: Accuracy.of(table)}
    header, numbers = number_rows({split: metrics}, accuracies)
    if "fold" in table:
        header[1] = "out of fold"
    print_table(header, numbers, rule=False)
    for line in warning_lines(accuracies):
        print(line)
    _print_calibration(runs, table, is_fitted_to_it=is_own)
    is_plain = split == "val" and len(runs) == 1 and not tta
    known = verified(runs[0], table, arguments.root is None) if is_plain else None
    for line in known.lines() if known else ():
        print(printable(line))
    if answers:
        print()
        model = Bundle.open(bundles_of(runs[0])[0])
        for line in measured_lines(table, model, answers, arguments.coverage, is_fitted_to_it=is_own and not tta):
            print(printable(line))
    if tta and len(runs) == 1 and arguments.root is None:
        _compare_and_keep(Run.open(runs[0]), tta, split, table)
    print()
    _print_classes(per_class(table))
    if arguments.output:
        write_predictions(table, arguments.output)
        print(f"{arguments.output}: {len(table)} images")
    return int(bool(known and known.found and known.found.differing))


def _answers(arguments: argparse.Namespace) -> Answers | None:
    """What is asked for beside the numbers; UserError where it cannot be had."""
    from resnet_tl.bundle import Bundle
    from resnet_tl.inference.answers import answers_of, check_one_model
    from resnet_tl.run import bundles_of

    asked = {name: getattr(arguments, name) for name in ("coverage", "per_class", "min_confidence")}
    if all(value is None or value is False for value in asked.values()):  # 0 is a mistake to be said
        return None
    bundles = [Bundle.open(bundle) for run in arguments.run for bundle in bundles_of(run)]
    if arguments.min_confidence is not None:
        check_one_model(bundles, "--min_confidence")
    return answers_of(bundles, arguments.tta, **asked)


def _compare_and_keep(run: Run, tta: str, split: str, table: pd.DataFrame) -> None:
    """Says what test-time augmentation gains over the predictions that the run holds, and keeps what it gave."""
    from resnet_tl.evaluation.comparing.comparison import paired_change
    from resnet_tl.evaluation.words import interval

    if run.predictions_file(split).is_file():
        accuracy, loss = paired_change(table, run.predictions(split))
        print(
            f"--tta {tta} changes the accuracy by {interval(*accuracy, unit=' points')}, the loss by {loss.value:+.4f} "
            f"[{loss.low:+.4f}, {loss.high:+.4f}]."
        )
    try:
        run.keep_under_tta(tta, split, table)
    except OSError as error:
        print(printable(f"The numbers are not kept in {run.path}: {reason_of(error)}."))
    else:
        print(printable(f"kept in {run.under_tta(tta).path}"))


def _print_calibration(runs: Sequence[Path], table: pd.DataFrame, is_fitted_to_it: bool) -> None:
    """How far the probabilities are to be trusted: those that are measured, and as `predict` and `submit` give them."""
    from resnet_tl.bundle import Bundle
    from resnet_tl.evaluation.uncertainty.calibration import calibration_words
    from resnet_tl.run import bundles_of

    print(f"probabilities: {calibration_words(table)}")
    models = [bundle for run in runs for bundle in bundles_of(run)]
    temperature = Bundle.open(models[0]).temperature if len(models) == 1 else 1.0
    if temperature != 1:
        fitted = ", which was fitted to these images" if is_fitted_to_it else ""
        print(f"calibrated (temperature {temperature:.2f}{fitted}): {calibration_words(table, temperature)}")


def _print_classes(classes: pd.DataFrame) -> None:
    """One line for each class."""
    from resnet_tl.evaluation.words import metric_value

    titles = ["class", "images", "precision", "recall", "F1", "AUROC", "mostly taken for"]
    rows = [
        [
            str(line["class"]),
            f"{line['images']:,}",
            *(metric_value(name, line[name]) for name in MEASURED),
            str(line["most_confused_with"]),
        ]
        for line in classes.to_dict("records")
    ]
    print_table(titles, rows, numbers=titles[1:6], rule=False)
