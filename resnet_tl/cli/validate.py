"""`resnet-tl validate RUN`, and by the same code `resnet-tl test RUN`."""

from __future__ import annotations

from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.loading import loading
from resnet_tl.cli.tables import print_table
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

    with loading():
        from resnet_tl.evaluation.metrics import per_class
        from resnet_tl.evaluation.predictions import write_predictions
        from resnet_tl.inference.scoring import score

    table, metrics = score(arguments.run, split, arguments.root)
    print(f"{len(table)} images")
    for name, value in metrics.items():
        print(f"{name:<20}  {value:.4f}")
    classes = per_class(table)
    rows = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]
        for values in classes.itertuples(index=False)
    ]
    print_table(list(map(str, classes.columns)), rows, rule=False)
    if arguments.output:
        write_predictions(table, arguments.output)
        print(f"{arguments.output}: {len(table)} images")
