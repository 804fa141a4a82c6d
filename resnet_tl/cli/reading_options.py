"""How the commands that look at labelled images are told what lies on disk: the same words as `fit` has."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_args

from resnet_tl.data.reading.options import Layout, Reading
from resnet_tl.errors import UserError

_SHARED = re.compile(
    r"--data\.(?=(layout|path_column|label_column|group_column|image_folder|exclude|relabel|on_bad_image)\b)"
)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each field of `Reading`, by the name that it has below `--data` in `fit`."""
    layout = "what the folders mean; default: auto, which looks and stops where it is in doubt"
    parser.add_argument("--layout", choices=get_args(Layout), default="auto", help=layout)
    add_table_options(parser)
    for name, what in (("label", "holds their classes"), ("group", "has equal values where images belong together")):
        help = f"the column of a table that {what}; default: found by looking"
        parser.add_argument(f"--{name}_column", metavar="NAME", help=help)


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Adds what finds the images that a table names."""
    column = "the column of a table that names its images; default: found by looking"
    parser.add_argument("--path_column", metavar="NAME", help=column)
    folder = "where a table's images are; default: in its own folder and all below it"
    parser.add_argument("--image_folder", metavar="FOLDER", help=folder)


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """Adds the lists of images that are left out or get another label."""
    parser.add_argument("--exclude", metavar="FILE", help="leave these images out first, as fit would")
    parser.add_argument("--relabel", metavar="FILE", help="give these images another label first, as fit would")


def reading_of(arguments: argparse.Namespace, **more: Any) -> Reading:
    """What was said, and `more` that holds for the command."""
    given = {**vars(arguments), **more}
    return Reading(**{field.name: given[field.name] for field in fields(Reading) if field.name in given})


@contextmanager
def in_own_words(root: str, others: Sequence[str] = ()) -> Iterator[None]:
    """Words the options in a mistake as this command has them; `root` stands in place of `--data.root `.

    `others` are settings, such as model.weights, that it has as an option of the last part's name.
    """
    try:
        yield
    except UserError as error:
        text = _SHARED.sub("--", str(error).replace("--data.root ", root))
        for name in others:
            text = text.replace(f"--{name}", f"--{name.rpartition('.')[2]}")
        raise UserError(text) from error
