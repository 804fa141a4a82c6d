"""What can be found in a data set, how grave each kind is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["stop", "warning", "note"]
Suggestion = Literal["exclude", "look"]


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Args:
        severity: `stop` keeps a fit from starting, a `warning` can change its numbers, a `note` is good to know.
        title: what was found, in a few words.
        advice: what to do.
    """

    severity: Severity
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "unusable": Kind("stop", "no usable image", "repair, remove or exclude; data.on_bad_image skip leaves them out"),
    "leak": Kind("stop", "the same picture in two splits", "exclude the copy that is trained on"),
    "cannot_split": Kind("stop", "nothing to validate with", "give a val split, or more images or groups"),
    "group_in_two_splits": Kind("stop", "a group in two splits", "give all its images one split"),
    "near_leak": Kind("warning", "nearly the same picture in two splits", "look, and exclude the copy in train"),
    "contradiction": Kind("warning", "one picture, two labels", "correct the label, or exclude all copies"),
    "class_names": Kind("warning", "class names hard to tell apart", "rename, if they mean one class"),
    "too_alike": Kind("warning", "images all alike", "give a group column, if they are frames or series"),
    "tiny_class": Kind("warning", "few images to train on", "collect more, or merge classes"),
    "duplicate": Kind("note", "the same picture twice in a split", "exclude the copies in train"),
    "near_duplicate": Kind("note", "nearly the same picture twice", "look; our own split keeps them together"),
}
"""Every kind by its name in the CSV file, the gravest first."""


class Finding(NamedTuple):
    """One line of the table of findings.

    Args:
        path: of the image as in the index; "" where classes are concerned.
        finding: a name in `KINDS`.
        detail: what exactly, in a few words.
        partner: the other image of a pair, else "".
        suggestion: `exclude` where leaving the image out is safe and solves it, else `look`.
    """

    path: str
    finding: str
    detail: str
    partner: str = ""
    suggestion: Suggestion = "look"
