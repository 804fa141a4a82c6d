"""Findings about single files: unusable ones, and those that are unlike the rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.audit import Audit
from resnet_tl.data.quality.file_properties import FORMATS, Trait, contradicts
from resnet_tl.data.quality.finding_kinds import Finding

SMALL = 32
"""Short side in pixels below which an image is tiny, if it is less than half of the median as well."""
LONG = 4
"""Sides whose ratio is above this make an image long."""
_RARE = 0.5
"""A trait that more images than this share have is how the data set is, no finding."""
_DETAILS = {
    Trait.ROTATED: ("rotated", "an EXIF orientation"),
    Trait.GREY: ("grey", "one channel"),
    Trait.PALETTE: ("palette", "a palette"),
    Trait.CMYK: ("cmyk", "four inks"),
    Trait.SIXTEEN_BIT: ("sixteen_bit", "more than 8 bits a channel"),
    Trait.ALPHA: ("alpha", "an alpha channel or a transparent colour"),
    Trait.ANIMATED: ("animated", "more than one frame"),
}


def file_findings(index: ImageIndex, audit: Audit) -> Iterator[Finding]:
    """Bad files, wrong suffixes, and what most of the data set's images are not."""
    for row, reason in audit.bad.items():
        yield Finding(index.id(row), "unusable", reason, suggestion="exclude")
    for row, number in enumerate(audit.formats.tolist()):
        if contradicts(index.id(row), number):
            yield Finding(index.id(row), "wrong_suffix", f"is a {FORMATS[number]}")
    for trait, (kind, detail) in _DETAILS.items():
        for row in _rare((audit.traits & trait) > 0):
            yield Finding(index.id(row), kind, detail)
    for row in _rare((audit.thumbnails.min(axis=(1, 2)) == audit.thumbnails.max(axis=(1, 2))) & (audit.formats > 0)):
        yield Finding(index.id(row), "blank", "one even colour")
    short, long = audit.sizes.min(axis=1), audit.sizes.max(axis=1)
    good = short > 0
    median = np.median(short[good]) if good.any() else 0
    for kind, found in (
        ("small", good & (short < SMALL) & (short < median / 2)),
        ("long", long > LONG * short),
    ):
        for row in _rare(found & good):
            yield Finding(index.id(row), kind, "{} x {} pixels".format(*audit.sizes[row]))


def _rare(found: np.ndarray) -> list[int]:
    return np.flatnonzero(found).tolist() if found.mean() <= _RARE else []
