"""`resnet-tl report RUN`."""

from __future__ import annotations

from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.errors import UserError, printable
from resnet_tl.files import check_target

EXAMPLES = """\
A fit writes the page of its run at its end; this writes it again, from what the run holds and without torch, into
RUN/report.html, and beside it predictions/mistakes_val.csv, predictions/least_certain_val.csv and figures/*.svg.
With -o it writes the page alone.

examples:
  resnet-tl report runs/freeze_backbone-1
  resnet-tl report runs/freeze_backbone-1 -o report.html
"""


def main(argv: list[str]) -> None:
    """Writes the page and says where it is."""
    parser = CommandParser(
        prog="resnet-tl report",
        description="Show a finished run on one page: how good, how sure, its mistakes, its images.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run such as runs/freeze_backbone-1")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: RUN/report.html")
    arguments = parser.parse_args(argv)
    if arguments.output:
        check_target(arguments.output, ".html")

    from resnet_tl.report.run_page import write_report
    from resnet_tl.run import Run

    run = Run.open(arguments.run)
    try:
        written = write_report(run, arguments.output)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:  # a file with other things in it
        raise UserError(
            f"The page of {run.path} cannot be made of its files, one of which may be damaged: "
            f"{type(error).__name__}: {error}."
        ) from error
    print(printable(f"{written}: {written.stat().st_size / 1e6:.1f} MB"))
