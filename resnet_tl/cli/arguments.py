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
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        message, unknown, words = message.removeprefix("argument ").partition("unrecognized arguments: ")
        if unknown:
            first = words.split()[0].partition("=")[0]
            message = f"there is no option '{first}'" if first.startswith("-") else f"'{first}' is one word too many"
            close = nearest(first, self._option_string_actions) if first.startswith("-") else ""
            self.exit(2, printable(f"{self.prog}: {message}.{close} See `{self.prog} --help`.\n"))
        self.exit(2, printable(f"{self.prog}: {message}; see `{self.prog} --help`.\n"))
