"""`resnet-tl test RUN`."""

from __future__ import annotations

from resnet_tl.cli import validate


def main(argv: list[str]) -> None:
    """Evaluates the test split, or other labelled images."""
    validate.main(argv, split="test")
