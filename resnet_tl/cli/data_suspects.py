"""`resnet-tl data suspects ROOT|RUN`: which labels are probably wrong, as a table, a page and a CSV file to act on."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from resnet_tl.cli.arguments import positive
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_list_options, add_reading_options, in_own_words, reading_of
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError, listed, printable
from resnet_tl.files import check_report

if TYPE_CHECKING:
    import pandas as pd

    from resnet_tl.run import Run
    from resnet_tl.training.probing.label_suspects import JudgedLabels

HELP = """Judges every label by networks that had not seen it, and lists those that are probably wrong.

The images are seen through a pretrained network, once; what it gives is kept. Small classifiers on that are trained on
four fifths of the images each and judge the other fifth. Of a run, the images, labels and network are its own; a run of
folds has judged its images already. Copies of one picture are judged together.

It writes suspects.csv, all labels, the most suspicious first, and suspects.html, a page with thumbnails. Nothing is
changed: write relabel or exclude into the column action where you agree, perhaps another class into suggested, and give
the file to `fit --data.relabel suspects.csv --data.exclude suspects.csv`."""
EXAMPLES = """examples:
  resnet-tl data suspects photos
  resnet-tl data suspects photos --network resnet18 --weights weights/model.safetensors --output checked/suspects.csv
  resnet-tl data suspects runs/freeze_backbone-1"""
SHOWN = 10
FOLDS = 5
ONLY_OF_A_FOLDER = ("layout", "path_column", "label_column", "group_column", "image_folder", "exclude", "relabel")


def add_suspects(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb and its options to `resnet-tl data`."""
    verb = verbs.add_parser(
        "suspects",
        help="which labels are probably wrong",
        description=HELP,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    verb.add_argument("root", type=Path, metavar="ROOT|RUN", help="a folder, .zip or table of images, or a run")
    add_reading_options(verb)
    add_list_options(verb)
    verb.add_argument("--network", metavar="NAME", help="default: that of the run, else as fit chooses it")
    verb.add_argument("--weights", metavar="FILE", help="of the network, as fit's --model.weights")
    verb.add_argument("--image_size", type=positive, metavar="PIXELS", help="default: as fit chooses it")
    verb.add_argument("--folds", type=positive, metavar="NUMBER", help=f"default: {FOLDS}, or those of a run of folds")
    output = "default: %(default)s; the page is beside it"
    verb.add_argument("-o", "--output", type=Path, default=Path("suspects.csv"), metavar="FILE", help=output)


def find_suspects(arguments: argparse.Namespace) -> int:
    """Judges, writes and prints."""
    table_file: Path = arguments.output
    page = table_file.with_suffix(".html")
    check_report(table_file, page)
    if arguments.folds == 1:
        raise UserError("--folds is 1; it must be 2 or more, so that there are others to judge an image.")
    from resnet_tl.run import Run

    run = Run.open(arguments.root) if (arguments.root / "recipe.yaml").is_file() else None
    with in_own_words(root="", others=("model.network", "model.weights", "data.image_size")):
        judged = _judge_run(run, arguments) if run else _judge_folder(arguments)

    from resnet_tl.data.quality.suspects_page import write_suspects_page
    from resnet_tl.evaluation.labels.suspects import suspects_table, write_suspects

    paths = [judged.index.id(row) for row in judged.rows]
    table = suspects_table(paths, judged.labels, judged.classes, judged.noise, judged.clusters)
    options = run.recipe["data"] if run else vars(arguments)
    in_use = [str(options[name]) for name in ("relabel", "exclude") if options.get(name)]
    lines = _said(judged, table, in_use)
    write_suspects(table, table_file)
    write_suspects_page(table, judged.index, page, lines, judged.value_range)  # the later one, see `check_report`
    for line in lines:
        print(printable(line))
    _print(table)
    _print_next(arguments, table_file, page, run, in_use)
    return 0


def _judge_folder(arguments: argparse.Namespace) -> JudgedLabels:
    with loading():
        from resnet_tl import ImageDataModule
        from resnet_tl.training.probing.label_suspects import judge_images

    reading = vars(reading_of(arguments, on_bad_image="skip"))
    data = ImageDataModule(
        root=arguments.root,
        exclude=arguments.exclude,
        relabel=arguments.relabel,
        image_size=arguments.image_size,
        on_leak="warn",
        **reading,
    )
    return judge_images(data, _model({"network": "auto"}, arguments), arguments.folds or FOLDS)


def _judge_run(run: Run, arguments: argparse.Namespace) -> JudgedLabels:
    """UserError for options that say what the run says itself."""
    given = [f"--{name}" for name in ONLY_OF_A_FOLDER if getattr(arguments, name) not in (None, "auto")]
    if given:
        raise UserError(f"{run.path} is a run, which says itself which images it has: leave out {listed(given)}.")
    with loading():
        from resnet_tl import ImageDataModule
        from resnet_tl.inference.scoring import own_images
        from resnet_tl.training.probing.label_suspects import judge_folds, judge_images

    if run.folds and not (arguments.network or arguments.weights or arguments.image_size or arguments.folds):
        return judge_folds(run, own_images(run))
    own = {"fold": None, "folds": None, "final": False, "transform": None, "predict_root": None, "on_leak": "warn"}
    if arguments.image_size:
        own["image_size"] = arguments.image_size
    data = ImageDataModule(**run.recipe["data"] | own)
    settings = {name: run.recipe["model"][name] for name in ("network", "network_args", "weights")}
    return judge_images(data, _model(settings, arguments), arguments.folds or FOLDS)


def _model(settings: dict[str, Any], arguments: argparse.Namespace) -> Any:
    """The network of the settings, or of the options."""
    from resnet_tl import ImageClassifier

    if arguments.network:
        settings = {"network": arguments.network}
    if arguments.weights:
        settings["weights"] = arguments.weights
    if settings.get("weights") == "none":
        raise UserError(
            "Labels are judged by what a pretrained network sees, and there are no weights: name a network with "
            "--network, and its weights with --weights."
        )
    return ImageClassifier(**settings, mode="head")


def _said(judged: JudgedLabels, table: pd.DataFrame, in_use: list[str]) -> list[str]:
    from resnet_tl.evaluation.labels.label_noise import rate_interval
    from resnet_tl.evaluation.labels.suspects import suspects_of
    from resnet_tl.evaluation.words import interval

    low, high = rate_interval(judged.labels, judged.noise.probabilities)
    suspects = len(suspects_of(table))
    lines = [
        f"{judged.index.root}: {len(table):,} labels of {len(judged.classes)} classes, judged by {judged.judged_by}",
        f"{suspects:,} label{' is' if suspects == 1 else 's are'} suspect: more probably wrong than right",
    ]
    if in_use:  # what is left of it after such a choice is no longer the share that the model of it expects
        lines.append(f"share of wrong labels: not known, since {listed(in_use)} has changed which labels are wrong")
    else:
        share = interval(judged.noise.rate, low, high)
        lines.append(f"share of wrong labels, as far as pictures show it: {share}")
    if judged.not_judged:
        lines.append(f"not judged, for no other images of the class are there: {listed(judged.not_judged)}")
    return lines


def _print(table: pd.DataFrame) -> None:
    from resnet_tl.evaluation.labels.suspects import confused_pairs
    from resnet_tl.evaluation.words import points

    rows = [
        [row["path"], row["label"], row["suggested"], points(row["probability_of_label"]), points(row["score"])]
        for row in table.head(SHOWN).to_dict("records")
    ]
    columns = ["most suspicious", "label", "looks like", "label %", "wrong %"]
    print_table(columns, [[printable(cell) for cell in row] for row in rows], numbers=columns[3:])
    if pairs := confused_pairs(table)[:SHOWN]:
        cells = [[printable(label), printable(other), str(count)] for (label, other), count in pairs]
        print_table(["label", "looks like", "suspects"], cells, numbers=["suspects"])


def _print_next(arguments: argparse.Namespace, table: Path, page: Path, run: Run | None, in_use: list[str]) -> None:
    print(f"{page}\n{table}")
    recipe = f"{quote(str(run.recipe_file))}" if run else f"freeze_backbone --data.root {quote(str(arguments.root))}"
    print("Look at the page, write relabel or exclude into the column action of the table, and go on with:")
    print(f"  resnet-tl fit --recipe {recipe} --data.relabel {quote(str(table))} --data.exclude {quote(str(table))}")
    if in_use:
        print(printable(f"That list takes the place of the one in use ({listed(in_use)}): join them."))
