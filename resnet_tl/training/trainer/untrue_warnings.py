"""Warnings of Lightning 2.6 that are not true of an ImageClassifier, or not for its user: they would lead astray."""

from __future__ import annotations

import warnings

UNTRUE = (
    "Found .* in eval mode at the start of training",  # frozen stages are meant to be
    "The number of training batches .* is smaller than the logging interval",  # an epoch's means are logged
    "You're resuming from a checkpoint that ended before the epoch ended",  # our loaders go on there
    "You're using the WeightAveraging callback with a model that overrides the configure_model",  # nothing is sharded
    "You're using the WeightAveraging callback, but loading a checkpoint outside",  # it holds the averaged weights
    r"You are trying to `self.log\(\)` but `Trainer\(barebones=True\)`",  # it is we who do
    "Total length of `list` across ranks is zero",  # where nothing is held out, nothing is validated
    ".*LeafSpec",  # Lightning's own use of torch
)


def silence_untrue_warnings() -> None:
    """From now on, in this process."""
    for message in UNTRUE:
        warnings.filterwarnings("ignore", message=message)
