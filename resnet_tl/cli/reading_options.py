"""How the commands that look at labelled images are told what lies on disk: the same words as `fit` has."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from resnet_tl.data.reading.options import Layout, Reading
from resnet_tl.errors import UserError

_SHARED = re.compile(r"--data\.(?=(layout|path_column|label_column|group_column|image_folder|exclude)\b)")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each field of `Reading`, by the name that it has below `--data` in `fit`."""
    layout = "what the folders mean; default: auto, which looks and stops where it is in doubt"
    parser.add_argument("--layout", choices=get_args(Layout), default="auto", help=layout)


def reading_of(arguments: argparse.Namespace) -> Reading:
    """What was said."""
    return Reading(arguments.layout)


@contextmanager
def in_own_words(root: str) -> Iterator[None]:
    """Words the options in a mistake as this command has them; `root` stands in place of `--data.root `."""
    try:
        yield
    except UserError as error:
        raise UserError(_SHARED.sub("--", str(error).replace("--data.root ", root))) from error
