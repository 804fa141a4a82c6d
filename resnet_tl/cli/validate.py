"""`resnet-tl validate RUN`, and by the same code `resnet-tl test RUN`."""

from __future__ import annotations

import sys
from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.garbage_collection import collecting_paused
from resnet_tl.files import check_target


def main(argv: list[str], split: str = "val") -> None:
    """Evaluates one split and prints its metrics, over all and per class."""
    command = {"val": "validate", "test": "test"}[split]
    parser = CommandParser(
        prog=f"resnet-tl {command}",
        description=f"The numbers of a run on its {split} images, or on other labelled images, from its best weights.",
        epilog=f"examples:\n  resnet-tl {command} runs/freeze_backbone-1\n"
        f"  resnet-tl {command} runs/freeze_backbone-1 --root more_photos",
    )
    parser.add_argument("run", metavar="RUN", help="a run; with --root a model bundle too")
    parser.add_argument("--root", type=Path, help=f"other labelled images: their {split} split, or all of them")
    parser.add_argument("-o", "--output", type=Path, help="write the prediction table to this CSV file")
    arguments = parser.parse_args(argv)
    if arguments.output:
        check_target(arguments.output)

    from rich.console import Console
    from rich.table import Table

    with collecting_paused():
        from resnet_tl.evaluation.metrics import per_class
        from resnet_tl.evaluation.predictions import write_predictions
        from resnet_tl.inference.scoring import score

    table, metrics = score(arguments.run, split, arguments.root)
    console = Console(
        width=None if sys.stdout.isatty() else 200, markup=False, emoji=False
    )  # without a terminal nothing is folded
    console.print(f"{len(table)} images", highlight=False)
    shown = Table(box=None, show_header=False, pad_edge=False)
    for name, value in metrics.items():
        shown.add_row(name, f"{value:.4f}")
    console.print(shown)
    classes = per_class(table)
    listing = Table(*map(str, classes.columns), box=None, pad_edge=False)
    for values in classes.itertuples(index=False):
        listing.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    console.print(listing)
    if arguments.output:
        write_predictions(table, arguments.output)
        console.print(f"{arguments.output}: {len(table)} images", highlight=False)
