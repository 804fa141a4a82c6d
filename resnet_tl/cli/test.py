"""`resnet-tl test RUN`."""

from __future__ import annotations

from resnet_tl.cli import validate


def main(argv: list[str]) -> int:
    """Evaluates the test split, or other labelled images."""
    return validate.main(argv, split="test")
