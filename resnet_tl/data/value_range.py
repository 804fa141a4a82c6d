"""Which values of images of more than 8 bits become black and white: found once, over the data set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import Arrays, kept_arrays, key_of
from resnet_tl.data.pixels.decode import deep_values, read_file
from resnet_tl.data.pixels.deep import EIGHT_BITS, FLOATS, INTEGERS, ValueRange
from resnet_tl.data.threads import for_each
from resnet_tl.errors import UserError

IMAGES = 500
"""That are looked at; which ones follows from the contents of all alone."""
VALUES = 4096
"""Of each of them, evenly spread over it."""
HELD = 99.9
"""Per cent of the values that a range of whole numbers must hold."""
SPAN = 0.25
"""Share of a range that the values must fill, or it is drawn close about them (thermal cameras: 29,000 to 31,000)."""


def find_value_range(index: ImageIndex, contents: np.ndarray, kinds: np.ndarray) -> ValueRange | None:
    """The range of the training images of more than 8 bits; of all, where those have 8; None where all have.

    Whole numbers without a sign: 0 to 2^k - 1 with the smallest k from 8 on that holds 99.9 % of the values. Floats: 0
    to 1 or 0 to 255 where all values lie in it. Where the values from the 0.1 to the 99.9 percentile span less than a
    quarter of that, and for all others, the range is these two percentiles.

    It is computed from up to 500 images, which are drawn by their contents, and up to 4096 values of each. So it is the
    same on every process and machine, and does not depend on names or order. `contents` are the images' hashes (N, 32),
    `kinds` those of their values (N,), as of `pixels.deep`.

    Raises:
        UserError: some are whole numbers and others floats, and no single range serves both.
    """
    rows = np.flatnonzero(kinds != EIGHT_BITS)
    learned_from = rows[index.table["split"].isin(("train", "")).to_numpy()[rows]]
    rows = learned_from if len(learned_from) else rows
    found = {kind: _range_of(index, rows[kinds[rows] == kind], contents, kind) for kind in (INTEGERS, FLOATS)}
    ranges = {one for one in found.values() if one is not None}
    if len(ranges) > 1:
        whole, floats = (f"{found[kind][0]:g} to {found[kind][1]:g}" for kind in (INTEGERS, FLOATS))  # type: ignore[index]
        raise UserError(
            f"{index.root} has images of whole numbers ({whole}) and others of floats ({floats}), which have no "
            "range in common: save them alike, or set one for both by --data.value_range [LOW,HIGH]."
        )
    return ranges.pop() if ranges else None


def _range_of(index: ImageIndex, rows: np.ndarray, contents: np.ndarray, kind: int) -> ValueRange | None:
    """The range of some rows, all of one kind; None where there are none that can be read."""
    chosen = sorted(rows.tolist(), key=lambda row: contents[row].tobytes())[:IMAGES]
    if not chosen:
        return None
    key = key_of(["value range", IMAGES, VALUES, kind], contents[chosen])
    about = f"range of the values of {len(rows)} images in {index.root}"
    kept = kept_arrays(key, ("range",), len(chosen), 0, about, lambda: _measured(index, chosen, kind))["range"]
    return (float(kept[0]), float(kept[1])) if len(kept) else None


def _measured(index: ImageIndex, rows: Sequence[int], kind: int) -> Arrays:
    found: dict[int, tuple[np.ndarray, float, float]] = {}

    def measure(row: int) -> None:
        with suppress(Exception):  # of any kind, as Pillow's; the check of all images says what is wrong
            values = deep_values(read_file(index.path(row)))
            colours = values[..., :3].ravel()
            some = colours[np.linspace(0, len(colours) - 1, min(VALUES, len(colours))).astype(int)]
            found[row] = some.astype(np.float64), float(colours.min()), float(colours.max())

    for_each(np.array(rows), measure)
    if not found:
        return {"range": np.empty(0)}
    samples, lows, highs = zip(*found.values(), strict=True)
    return {"range": np.array(range_of(np.concatenate(samples), min(lows), max(highs), kind))}


def range_of(sample: np.ndarray, low: float, high: float, kind: int) -> ValueRange:
    """The range by the rule of `find_value_range`, for values (n,) of one kind that lie in `low` to `high`."""
    bottom, top = np.percentile(sample, (100 - HELD, HELD)).tolist()
    usual: list[float]
    if kind == FLOATS:
        usual = [end for end in (1.0, 255.0) if low >= 0 and high <= end]
    else:
        usual = [2.0**bits - 1 for bits in range(8, 33) if low >= 0 and top <= 2**bits - 1]
    if usual and (top - bottom >= SPAN * usual[0] or top == bottom):
        return 0.0, usual[0]
    return (bottom, top) if bottom < top else (bottom, bottom + 1)


def in_words(kinds: np.ndarray, value_range: ValueRange | None) -> str:
    """One line on how images of more than 8 bits are read; "" where there are none."""
    count = int((kinds != EIGHT_BITS).sum())
    if not count or value_range is None:
        return ""
    low, high = value_range
    return f"{count} images have more than 8 bits: their values {low:g} to {high:g} become 0 to 255 (data.value_range)"
