"""How the commands that look at labelled images are told what lies on disk: the same words as `fit` has."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_args

from resnet_tl.data.reading.options import Layout, Reading
from resnet_tl.errors import UserError


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each field of `Reading`, by the names that it has below `data` and in `fit`."""
    layout = "what the folders mean; default: auto, which looks and stops where it is in doubt"
    parser.add_argument("--layout", "--data.layout", choices=get_args(Layout), default="auto", help=layout)
    add_table_options(parser)
    for name, what in (("label", "holds their classes"), ("group", "has equal values where images belong together")):
        _add(parser, f"{name}_column", "NAME", f"the column of a table that {what}; default: found by looking")


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Adds what finds the images that a table names."""
    _add(parser, "path_column", "NAME", "the column of a table that names its images; default: found by looking")
    _add(parser, "image_folder", "FOLDER", "where a table's images are; default: in its own folder and all below it")


def _add(parser: argparse.ArgumentParser, name: str, metavar: str, help: str) -> None:
    parser.add_argument(f"--{name}", f"--data.{name}", metavar=metavar, help=help)


def reading_of(arguments: argparse.Namespace, **more: Any) -> Reading:
    """What was said, and `more` that holds for the command."""
    given = {**vars(arguments), **more}
    return Reading(**{field.name: given[field.name] for field in fields(Reading) if field.name in given})


@contextmanager
def in_own_words(root: str) -> Iterator[None]:
    """Puts `root` in place of `--data.root ` into a mistake: what it says to type must work with this command."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("--data.root ", root)) from error
