"""The argument parser of every command but `fit`: a mistake ends with one sentence and exit code 2."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from resnet_tl.errors import listed, nearest, printable


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is '{text}'; it must be a whole number of 1 or more")
    return int(text)


class CommandParser(argparse.ArgumentParser):
    """argparse without abbreviated options, with line breaks kept in the help, and with plain sentences."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {self._sentence(message)}\n"))

    def _sentence(self, message: str) -> str:
        """What argparse reports, with what is allowed and the nearest match."""
        option, _, problem = message.removeprefix("argument ").partition(": ")
        if found := re.match(r"invalid choice: '(.*?)' \(choose from (.*)\)", problem):
            choices = re.findall(r"[^\s',]+", found[2])
            start = f"{option} is '{found[1]}'; it must be" if option.startswith("-") else f"'{found[1]}' is not"
            return f"{start} one of {listed(choices)}.{nearest(found[1], choices)}"
        if found := re.match(r"invalid (int|float) value: '(.*)'", problem):
            kind = {"int": "a whole number", "float": "a number"}[found[1]]
            return f"{option} is '{found[2]}'; it must be {kind}."
        if problem.startswith("is "):  # of `positive`
            return f"{option} {problem}."
        if problem.startswith("expected "):
            return f"{option} has no value."
        if found := re.match(r"the following arguments are required: (.*)", message):
            return f"{' and '.join(found[1].split(', '))} must be given; see `{self.prog} --help`."
        if found := re.match(r"unrecognized arguments: (\S+)", message):
            options = [name for action in self._actions for name in action.option_strings]
            kind = "option" if found[1].startswith("-") else "argument"
            return f"There is no {kind} '{found[1]}'; see `{self.prog} --help`.{nearest(found[1], options)}"
        return message
