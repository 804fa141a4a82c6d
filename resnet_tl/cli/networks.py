"""`resnet-tl networks list | show`."""

from __future__ import annotations

from pathlib import Path

from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.cli.tables import print_table
from resnet_tl.files import check_target
from resnet_tl.networks.catalog import CIFAR_RESNETS, CIFAR_RESNETS_V2, DIGITS, IMAGENET_RESNETS, find_own

EXAMPLES = """\
examples:
  resnet-tl networks list
  resnet-tl networks show resnet50
  resnet-tl networks show resnet164v2 --output resnet164v2.svg
  resnet-tl networks show convnext_tiny --image_size 384
"""


def main(argv: list[str]) -> None:
    """Lists or shows."""
    parser = CommandParser(
        prog="resnet-tl networks",
        description="The networks that can be trained, and what one of them consists of.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show")
    actions.add_parser("list", help="name and kind of each")
    show = actions.add_parser("show", help="shapes, parameters and multiply-adds of its stages, and a diagram")
    show.add_argument("name", metavar="NAME", help="a name from `resnet-tl networks list`, or one of timm's")
    show.add_argument("--image_size", type=positive, metavar="N", help="side in pixels; default: what it was made for")
    show.add_argument("--num_classes", type=positive, metavar="N", help="default: 10 for small images, else 1000")
    show.add_argument("--output", type=Path, metavar="FILE", help="a .png or .svg file; default: NAME.png, here")
    arguments = parser.parse_args(argv)
    if arguments.action == "list":
        _list()
    else:
        _show(arguments.name, arguments.image_size, arguments.num_classes, arguments.output)


def _list() -> None:
    groups = {
        "digits, 28 or 32 px": {name: own.summary for name, own in DIGITS.items()},
        "small images, 32 px": {name: own.summary for name, own in CIFAR_RESNETS.items()},
        "small images, with pre-activation": {name: own.summary for name, own in CIFAR_RESNETS_V2.items()},
        "ImageNet, 224 px": IMAGENET_RESNETS,
    }
    width = max(len(name) for networks in groups.values() for name in networks)
    for title, networks in groups.items():
        print(title)
        for name, summary in networks.items():
            print(f"  {name:<{width}}  {summary}")
        print()
    print("Other depths work as well, resnetN with N = 6n + 2 and resnetNv2 with N = 9n + 2, and so does")
    print("every network of timm, such as convnext_tiny; one that is no chain of stages trains as one stage.")


def _show(name: str, image_size: int | None, num_classes: int | None, output: Path | None) -> None:
    from resnet_tl.networks import create_network
    from resnet_tl.networks.cost import StageCost, stage_costs, with_unit
    from resnet_tl.networks.diagram import check_suffix, draw_network

    output = output or Path(f"{name.replace('/', '_')}.png")
    check_suffix(output)
    check_target(output)
    num_classes = num_classes or (10 if find_own(name) else 1000)
    network = create_network(name, num_classes, in_chans=1 if name in DIGITS else 3)
    size = image_size or network.image_size
    costs = stage_costs(network, size)
    total = StageCost("all", (), sum(cost.parameters for cost in costs), sum(cost.multiply_adds for cost in costs))
    rows = [
        [cost.name, " × ".join(map(str, cost.output_shape)), f"{cost.parameters:,}", with_unit(cost.multiply_adds)]
        for cost in [*costs, total]
    ]
    titles = ["stage", "output shape", "parameters", "multiply-adds"]
    print(f"{name}: images of {network.in_chans} × {size} × {size}, {num_classes} classes")
    print_table(titles, rows, numbers=titles[1:])
    draw_network(network, size, output)
    print(f"diagram: {output}")
