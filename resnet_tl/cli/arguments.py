"""The argument parser of every command but `fit`: a mistake ends with one sentence and exit code 2."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from resnet_tl.errors import nearest, printable


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 1 or more")
    return int(text)


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """Adds what asks for prediction sets and abstentions."""
    coverage = "a set of classes for each image that holds its own with this chance, such as 0.95"
    parser.add_argument("--coverage", type=float, metavar="SHARE", help=coverage)
    parser.add_argument("--per_class", action="store_true", help="the coverage holds in each class, not on average")
    least = "no answer where the largest probability is smaller, such as 0.8"
    parser.add_argument("--min_confidence", type=float, metavar="SHARE", help=least)


class CommandParser(argparse.ArgumentParser):
    """argparse without abbreviated options, with line breaks kept in the help, and with errors on one line."""

    def __init__(self, **options: Any) -> None:
        self.suggest_on_error = False  # of newer Pythons, whose suggestions may be far away; `error` makes ours
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0].partition("=")[0]
        close = nearest(unknown, self._option_string_actions) if unknown.startswith("-") else ""
        see = f".{close} See" if close else "; see"
        self.exit(2, printable(f"{self.prog}: {message}{see} `{self.prog} --help`.\n"))
