"""`resnet-tl submit`: a run's predictions in the form of a competition's sample file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.averaging import add_averaging_options, is_run, said_of
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_table_options, in_own_words
from resnet_tl.errors import UserError, printable
from resnet_tl.files import check_target

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """examples:
  resnet-tl submit runs/seedlings --images data/plants/test --sample data/plants/sample_submission.csv -o plants.csv
  resnet-tl submit runs/pets --images data/pets/test --sample data/pets/sample_submission.csv -o pets.csv \\
      --positive dogs --clip 0.01
  resnet-tl submit runs/a runs/b --tta mirror --images data/plants/test --sample data/plants/sample_submission.csv \\
      -o plants.csv
  resnet-tl submit --predictions averaged.csv --sample data/plants/sample_submission.csv -o plants.csv

The sample decides the ids, their order and the form: class names, one probability, or a column per class.
Nothing is written unless every id has exactly one prediction and every value is in order."""


def main(argv: list[str]) -> int | None:
    """Predicts, builds the submission, writes it and says what it holds."""
    parser = CommandParser(
        prog="resnet-tl submit",
        description="Write a competition's submission file.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("run", nargs="*", type=Path, metavar="RUN", help="a run directory or a model bundle; several are averaged")
    add("--images", metavar="IMAGES", help="the images to predict: a folder, a zip of one, or a table that names them")
    add_table_options(parser)
    add_averaging_options(parser)
    columns = "a table with the columns id and prob_<class>, such as `predict` writes, in place of RUN and --images"
    add("--predictions", type=Path, metavar="FILE", help=columns)
    add("--sample", type=Path, required=True, metavar="FILE", help="the competition's sample submission")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the submission to write")
    add("--positive", metavar="CLASS", help="the class whose probability a single column asks for")
    add("--clip", type=float, metavar="C", help="keep probabilities within C … 1 - C, for log loss")
    arguments = parser.parse_args(argv)
    _check_paths(arguments)

    from resnet_tl.evaluation.predictions import read_predictions
    from resnet_tl.inference.submission import build_submission, write_submission

    table = read_predictions(arguments.predictions) if arguments.predictions else _predict(arguments)
    submission = build_submission(table, arguments.sample, arguments.positive, arguments.clip)
    write_submission(submission, arguments.output)
    print(f"form: {submission.form}")
    for note in submission.notes:
        print(printable(f"note: {note}"))
    print(printable(submission.frame.head().to_string(index=False)))
    print(f"{len(submission.frame)} rows written to {arguments.output}")
    return 0


def _check_paths(arguments: argparse.Namespace) -> None:
    if arguments.predictions and (arguments.path_column or arguments.image_folder):
        raise UserError("--path_column and --image_folder are for a table of --images, not for --predictions.")
    if arguments.predictions and (arguments.run or arguments.images):
        raise UserError("--predictions stands in place of RUN and --images; give one or the other.")
    if not arguments.predictions and not (arguments.run and arguments.images):
        raise UserError("A submission needs RUN and --images IMAGES, or --predictions FILE.")
    if arguments.predictions and (option := "tta" if arguments.tta else "average" if arguments.average else ""):
        raise UserError(f"--{option} has no meaning for --predictions, which are made already; leave it out.")
    for run in arguments.run:
        if not run.is_dir() and not is_run(run):
            raise UserError(f"{run}: there is no such run directory.")
    check_target(arguments.output)
    if arguments.output.resolve() == arguments.sample.resolve():
        raise UserError(f"--output {arguments.output} is the sample file itself; choose another name.")


def _predict(arguments: argparse.Namespace) -> pd.DataFrame:
    import numpy as np

    from resnet_tl.data.reading.layouts import unlabelled
    from resnet_tl.data.reading.options import Reading
    from resnet_tl.evaluation.predictions import prediction_table
    from resnet_tl.inference.submission import build_submission

    named = {"path_column": arguments.path_column, "image_folder": arguments.image_folder}
    with in_own_words(root="--images "):
        ids = unlabelled([arguments.images], Reading(**named)).ids()
    with loading():
        from resnet_tl.inference.predictor import Predictor

        predictor = Predictor(arguments.run, tta=arguments.tta, average=arguments.average)  # imports timm
    # A table of even odds has every id and class: what is wrong with the ids, the form or an option shows before the
    # first image is decoded.
    even = prediction_table(ids, ids, None, np.zeros((len(ids), len(predictor.classes))), predictor.classes)
    build_submission(even, arguments.sample, arguments.positive, arguments.clip)
    for line in said_of(arguments.run, predictor):
        print(printable(line))
    with in_own_words(root="--images "):
        return predictor.predict(arguments.images, **named)
