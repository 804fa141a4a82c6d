"""`resnet-tl predict RUN IMAGES...`."""

from __future__ import annotations

import json
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser, add_answer_options, positive
from resnet_tl.cli.averaging import add_averaging_options, is_run, said_of
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_table_options, in_own_words
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError, listed, printable
from resnet_tl.files import check_target

if TYPE_CHECKING:
    import pandas as pd

MARK = "(?)"
EXAMPLES = """\
examples:
  resnet-tl predict runs/freeze_backbone-1 photo.jpg
  resnet-tl predict runs/freeze_backbone-1 new_photos 'more/*.png' --output predictions.csv
  resnet-tl predict runs/freeze_backbone-1 list.csv --top 3      a table that names images
  resnet-tl predict runs/a runs/b new_photos --tta mirror        the average of two models and two views
  resnet-tl predict runs/freeze_backbone-1 new_photos --coverage 0.9 --min_confidence 0.8
"""


def main(argv: list[str]) -> None:
    """Predicts, and prints or writes the prediction table."""
    parser = CommandParser(
        prog="resnet-tl predict",
        description="Classify images with a run or a model bundle: id, predicted class, familiarity, probabilities.",
        epilog=EXAMPLES,
    )
    run = "a run such as runs/freeze_backbone-1, or a model bundle"
    parser.add_argument("run", metavar="RUN", help=run)
    given = "files, folders, zips, globs, or tables that name images; runs in front of them are averaged with RUN"
    parser.add_argument("images", metavar="IMAGES", nargs="+", help=given)
    add_averaging_options(parser)
    parser.add_argument("-o", "--output", type=Path, help="write the table to this CSV file; default: print it")
    parser.add_argument("--top", type=positive, default=3, help="classes to print for each image; default: 3")
    add_answer_options(parser)
    parser.add_argument("--batch_size", type=positive, default=32, help="images at once; default: 32")
    parser.add_argument("--on_bad_image", choices=["stop", "skip"], default="stop", help="default: stop")
    add_table_options(parser)
    parser.add_argument("--device", help="such as cpu or cuda; default: the fastest at hand")
    arguments = parser.parse_args(argv)
    images = list(dropwhile(is_run, arguments.images))
    runs = [Path(run) for run in (arguments.run, *arguments.images[: len(arguments.images) - len(images)])]
    if not images:
        raise UserError(f"{listed(runs)} are runs, and no images are given; name them behind the runs.")
    if arguments.output:
        check_target(arguments.output, ".csv")
        if arguments.output.resolve() in {Path(path).resolve() for path in images}:
            raise UserError(f"{arguments.output} is the list of the images; choose another --output.")

    with loading():
        from resnet_tl.evaluation.predictions import write_predictions
        from resnet_tl.evaluation.uncertainty.familiarity import strange_up_to
        from resnet_tl.inference.predictor import Predictor

        predictor = Predictor(runs, arguments.device, tta=arguments.tta, average=arguments.average)  # imports timm
    asked = {name: getattr(arguments, name) for name in ("coverage", "per_class", "min_confidence")}
    answers = predictor.answers(**asked)
    if arguments.tta or len(predictor.ensemble.members) > 1:
        for line in said_of(runs, predictor):
            print(printable(line))
    options = {name: getattr(arguments, name) for name in ("batch_size", "on_bad_image", "path_column", "image_folder")}
    with in_own_words(root=""):
        table = predictor.predict(images, **options, **asked)
    limit = strange_up_to([len(one.distances) for one in predictor.ensemble.references])
    if arguments.output:
        write_predictions(table, arguments.output)
        print(f"{arguments.output}: {len(table)} images")
    else:
        _print(table, arguments.top, limit)
    if limit and (strange := table.loc[table["familiarity"] <= limit, "id"].tolist()):
        first = f"{len(strange)} of {len(table)} images look" if len(strange) > 1 else "One image looks"
        said = f"like nothing the model was trained on (familiarity up to {limit:.2g}): {listed(strange, 3)}."
        print(printable(f"{MARK} {first} {said}"))
    if arguments.min_confidence is not None:
        abstained = (table["predicted"] == "").sum()
        print(f"no answer for {abstained} of {len(table)} images: no class has {arguments.min_confidence:g} or more")
    for line in answers.said:
        print(printable(line))


def _print(table: pd.DataFrame, top: int, limit: float | None) -> None:
    """With a mark at images that are no more familiar than the limit."""
    from resnet_tl.evaluation.predictions import classes_of, probabilities
    from resnet_tl.evaluation.words import percent

    is_strange = table["familiarity"] <= limit if limit else [False] * len(table)
    names = [f"{name} {MARK}" if marked else str(name) for name, marked in zip(table["id"], is_strange, strict=True)]
    classes, matrix, columns = classes_of(table), probabilities(table), {"image": names}
    if (table["predicted"] == "").any():
        columns["answer"] = ["yes" if predicted else "none" for predicted in table["predicted"]]
    if "set" in table:
        quoted = {name: f'"{name}"' if "," in name else name for name in classes}
        columns["set"] = [listed([quoted[name] for name in json.loads(text)], 5) for text in table["set"]]
    order = (-matrix).argsort(axis=1, kind="stable")
    for number, places in enumerate(order.T[:top], 1):
        best = zip(places, matrix, strict=True)
        columns[f"top {number}"] = [f"{classes[place]} {percent(row[place])}" for place, row in best]
    print_table(list(columns), list(zip(*columns.values(), strict=True)), rule=False)
