"""How the commands that look at labelled images are told what lies on disk: the same words as `fit` has."""

from __future__ import annotations

import argparse
from typing import get_args

from resnet_tl.data.reading.options import Layout, Reading


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each field of `Reading`; what a message says to `fit`, `--data.layout`, works here as well."""
    layout = "what the folders mean; default: auto, which looks and stops where it is in doubt"
    parser.add_argument("--layout", "--data.layout", choices=get_args(Layout), default="auto", help=layout)


def reading_of(arguments: argparse.Namespace) -> Reading:
    """What was said."""
    return Reading(arguments.layout)
