"""`resnet-tl probe ROOT`: what frozen networks are worth on these images, and what more images would bring."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl import timing
from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import add_reading_options, in_own_words
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError, listed, printable
from resnet_tl.files import check_target
from resnet_tl.networks.catalog import find_own
from resnet_tl.terminal import Screen, shown

if TYPE_CHECKING:
    from resnet_tl.data.datamodule import ImageDataModule
    from resnet_tl.evaluation.probing import Probe
    from resnet_tl.training.classifier import ImageClassifier

HELP = """For each network, without training it: the accuracy of a linear probe (logistic regression on its frozen
features) and of the nearest neighbours on the validation images, with 95 % intervals, and how fast it is. Then it says
which one to take. Features are kept, so that a second look and the fit that follows take seconds.

With --learning_curve: the accuracy over the number of training images, and what twice as many would bring."""
EXAMPLES = """\
examples:
  resnet-tl probe photos
  resnet-tl probe photos --networks resnet18 resnet50
  resnet-tl probe photos --networks resnet18 --weights weights/model.safetensors --depths
  resnet-tl probe photos --networks resnet20 --folds 5 --save runs/probed
  resnet-tl probe photos --networks resnet20 --learning_curve
"""
USUAL = ("resnet20", "resnet18", "resnet50")
"""What is probed where no network is named, and what `auto` takes."""


def main(argv: list[str]) -> None:
    """Probes, prints and writes; with --save it fits the chosen one."""
    arguments = _parser().parse_args(argv)
    root = str(arguments.root)
    networks, weights = _named(arguments)
    for name in networks:
        find_own(name)  # refuses an impossible depth without torch
    targets = ("learning_curve.png", "learning_curve.csv") if arguments.learning_curve else ("probe.csv",)
    for name in targets if arguments.output else ():
        check_target(arguments.output / name)
    _check(arguments)
    with loading():
        import torch

        from resnet_tl.data.datamodule import ImageDataModule
        from resnet_tl.evaluation.probing import choose, probe_rows, write_probes
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _in_own_words():
        _check_names(networks)
        data = ImageDataModule(root, **_data_options(arguments))
        data.prepare_data()
        data.setup("fit")
        if len(data.classes) < 2:
            raise UserError(f"{root} has images of one class alone: nothing can be told apart.")
        names = networks or _usual(data)
        if arguments.learning_curve:
            _learning_curve(data, names, weights, arguments, device)
            return
        probes, of = _probes(data, names, weights, arguments, device)
    header, rows = probe_rows(probes)
    images = len(probes[0].is_correct)
    how = f"all {images:,}, by {arguments.folds} folds" if arguments.folds else f"{images:,} validation images"
    print(f"{data.index.root}: {len(data.classes)} classes; judged on {how}")
    print_table(header, rows, numbers=header[3:])
    choice = choose(probes)
    print(printable(choice.sentence))
    if len(probes) > 1:
        print("These images chose it, so that its own number is a little too good.")
    if arguments.output:
        write_probes(probes, arguments.output / "probe.csv")
        print(arguments.output / "probe.csv")
    if arguments.save:
        name, path = of[choice.probe]
        _save(arguments, name, path)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="resnet-tl probe",
        description=HELP,
        epilog=EXAMPLES,
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="a folder of images, a .zip of one, or a table of them")
    names = "such as resnet18 resnet50; default: what a fit would take, and the usual ones whose weights are at hand"
    parser.add_argument("--networks", nargs="+", metavar="NAME", default=[], help=names)
    files = "of each network, in their order: a file, a run, a tag of timm, default or none; default: default"
    parser.add_argument("--weights", nargs="+", metavar="WEIGHTS", default=[], help=files)
    cuts = (
        "also the features of earlier stages, averaged over the image, such as stage3; without a name: all from stage2"
    )
    parser.add_argument("--depths", nargs="*", metavar="STAGE", help=cuts)
    parser.add_argument("--folds", type=positive, metavar="N", help="judge every image, by N folds")
    curve = "accuracy over the number of training images, of one network, and what twice the images would bring"
    parser.add_argument("--learning_curve", action="store_true", help=curve)
    parser.add_argument("--save", type=Path, metavar="RUN", help="fit a head on the chosen network: an ordinary run")
    table = "for probe.csv, or learning_curve.png and .csv; default: nothing is written"
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help=table)
    add_reading_options(parser)
    parser.add_argument("--on_bad_image", choices=["stop", "skip"], default="stop", help="default: stop")
    parser.add_argument("--exclude", metavar="FILE", help="leave these images out, as fit would")
    share = "of the images, where there is no val folder; default: 0.2"
    parser.add_argument("--val_fraction", type=float, metavar="SHARE", help=share)
    parser.add_argument("--image_size", type=positive, metavar="N", help="in pixels; default: what the weights saw")
    parser.add_argument("--seed", type=int, default=0, help="of the split; default: 0, as of fit")
    parser.add_argument("--device", help="such as cpu or cuda; default: the fastest at hand")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together, before anything is read."""
    if arguments.save and arguments.depths is not None:
        raise UserError("--save keeps a head on a whole network: leave out --depths, or --save.")
    if arguments.learning_curve:
        for option in ("folds", "save", "depths"):
            if getattr(arguments, option) is not None:
                raise UserError(f"--learning_curve does not go with --{option}: leave out one of them.")
        if len(arguments.networks) > 1:
            found = listed(arguments.networks)
            raise UserError(f"--learning_curve is of one network, but --networks names {found}: give one of them.")
    if arguments.folds == 1:
        raise UserError("--folds is 1; it must be 2 or more.")
    if arguments.save and arguments.save.exists():
        raise UserError(f"{arguments.save} exists already; name another run by --save.")


@contextmanager
def _in_own_words() -> Iterator[None]:
    """Words the options in a mistake as this command has them."""
    try:
        with in_own_words(root=""):
            yield
    except UserError as error:
        said = re.sub(r"(--)?data\.(?=(folds|val_fraction|image_size|seed)\b)", "--", str(error))
        said = said.replace("--model.network ", "--networks ").replace("--model.weights ", "--weights ")
        raise UserError(said) from error


def _named(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The networks and the weights of each; UserError where they do not pair, or stand twice."""
    networks, weights = list(arguments.networks), list(arguments.weights)
    if weights and len(weights) != len(networks):
        raise UserError(
            f"--weights names {len(weights)} and --networks {len(networks)}: give each network its weights, in the "
            "same order; default stands for the usual ones."
        )
    pairs = list(zip(networks, weights or ["default"] * len(networks), strict=True))
    for pair in pairs:
        if pairs.count(pair) > 1:
            raise UserError(f"--networks names {pair[0]} twice with the same weights; leave out one of them.")
    return networks, [path for _, path in pairs]


def _data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of the data module: the same words as below `--data` of fit, those that were given."""
    names = ("layout", "path_column", "label_column", "group_column", "image_folder", "on_bad_image", "exclude")
    given = {name: getattr(arguments, name) for name in (*names, "val_fraction", "image_size")}
    return {name: value for name, value in given.items() if value is not None} | {"seed": arguments.seed}


def _usual(data: ImageDataModule) -> list[str]:
    from resnet_tl.training.building import choose_network

    return list(dict.fromkeys((choose_network("auto", data.short_side)[0], *USUAL)))


def _check_names(names: Sequence[str]) -> None:
    """Raises UserError for a network that there is not, before any is computed."""
    from resnet_tl.networks import create_network

    for name in names:
        create_network(name, 2)


def _models(names: Sequence[str], weights: Sequence[str], seed: int) -> list[tuple[str, str, ImageClassifier]]:
    from resnet_tl.training.classifier import ImageClassifier

    paths = weights or ["default"] * len(names)
    return [
        (name, path, ImageClassifier(name, weights=path, mode="head", seed=seed))
        for name, path in zip(names, paths, strict=True)
    ]


def _probes(
    data: ImageDataModule,
    names: Sequence[str],
    weights: Sequence[str],
    arguments: argparse.Namespace,
    device: str,
) -> tuple[list[Probe], dict[Probe, tuple[str, str]]]:
    """The probes, and which network and weights each is of; UserError where no network has weights."""
    from resnet_tl.networks.weights import NotFetched
    from resnet_tl.training.probe import probe_network

    probes: list[Probe] = []
    of: dict[Probe, tuple[str, str]] = {}
    missing: list[str] = []
    depths = () if arguments.depths is None else arguments.depths or None
    for name, path, model in _models(names, weights, arguments.seed):
        try:
            found = probe_network(data, model, depths, arguments.folds, device)
        except NotFetched as error:
            missing.append(name)
            if len(missing) == len(names):
                raise UserError(f"No network has weights that are at hand. {error}") from error
            continue
        probes += found
        of |= dict.fromkeys(found, (name, path))
    if missing:
        print(
            f"{len(missing)} of {len(names)} networks left out, since their weights could not be fetched: "
            f"{listed(missing)} (give their files by --weights)."
        )
    return probes, of


def _learning_curve(
    data: ImageDataModule, names: Sequence[str], weights: Sequence[str], arguments: argparse.Namespace, device: str
) -> None:
    from resnet_tl.evaluation.learning_curve import curve_rows, draw_curve, write_curve
    from resnet_tl.training.features import frozen_features
    from resnet_tl.training.learning_curve import learning_curve
    from resnet_tl.training.probe import groups_of, parts_of

    [(name, _, model), *_] = _models(names[:1], weights, arguments.seed)
    features = frozen_features(data, model, device)
    ((train, judged),) = parts_of(data)
    labels = data.index.labels
    curve = learning_curve(
        features.of(train),
        labels[train],
        features.of(judged),
        labels[judged],
        len(data.classes),
        groups_of(data)[train],
    )
    print(f"{data.index.root}: a linear probe of {name}, judged on {len(judged):,} validation images")
    header, rows = curve_rows(curve)
    print_table(header, rows, numbers=header)
    print(curve.sentence())
    if arguments.output:
        write_curve(curve, arguments.output / "learning_curve.csv")
        draw_curve(curve, arguments.output / "learning_curve.png")
        print(f"{arguments.output / 'learning_curve.png'}\n{arguments.output / 'learning_curve.csv'}")


def _save(arguments: argparse.Namespace, network: str, weights: str) -> None:
    """The ordinary fit of a head, on the features that the probe has kept."""
    from resnet_tl.cli import fit

    words = ["--recipe", "freeze_backbone", "--data.root", str(arguments.root), "--run", str(arguments.save)]
    words += [f"--model.network={network}", f"--model.weights={weights}", f"--seed={arguments.seed}"]
    options = _data_options(arguments)
    del options["seed"]
    words += [f"--data.{name}={value}" for name, value in options.items()]
    words += [f"--folds={arguments.folds}"] if arguments.folds else []
    if arguments.device:
        words += [f"--trainer.accelerator={arguments.device.partition(':')[0]}"]
    timing.begin("start-up")
    with shown(Screen()):  # a fit's output is its log
        fit.main(words)
