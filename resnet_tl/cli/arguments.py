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
