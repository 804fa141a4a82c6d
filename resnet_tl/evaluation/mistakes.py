"""The images to look at: those judged wrongly while the model was most sure, and those that it was least sure of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resnet_tl.errors import printable
from resnet_tl.evaluation.figures import INK, QUIET, face, shorten, thumbnail
from resnet_tl.evaluation.predictions import classes_of, label_numbers
from resnet_tl.evaluation.predictions import probabilities as probabilities_of
from resnet_tl.evaluation.words import percent
from resnet_tl.files import replacing

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MOST_SHOWN = 24
"""Mistakes in a picture, and on a page; as many of the least certain images."""
COLUMNS, CELL, GAP, MARGIN, LINE = 6, 220, 24, 32, 23
WRONG = "#b3362c"


def mistakes(table: pd.DataFrame) -> pd.DataFrame:
    """The labelled images of a prediction table that were judged wrongly, those judged most surely first.

    Columns: `id`, `path`, `label`, `predicted`, `probability` (of what was predicted), `label_probability`; the index
    counts the rows of `table`.
    """
    labels, shares, names = label_numbers(table), probabilities_of(table), np.array(classes_of(table), dtype=object)
    guesses = shares.argmax(axis=1)
    wrong = np.flatnonzero((labels >= 0) & (labels != guesses))
    found = table.loc[table.index[wrong], ["id", "path", "label"]].assign(
        predicted=names[guesses[wrong]],
        probability=shares[wrong, guesses[wrong]],
        label_probability=shares[wrong, labels[wrong]],
    )
    found.index = pd.Index(wrong)
    return found.sort_values("probability", ascending=False, kind="stable")


def least_certain(table: pd.DataFrame) -> pd.DataFrame:
    """The images of a prediction table, labelled or not, the one with the smallest largest probability first.

    Columns and index as in `mistakes`; the `label_probability` of an unlabelled image is nan.
    """
    labels, shares, names = label_numbers(table), probabilities_of(table), np.array(classes_of(table), dtype=object)
    guesses, rows = shares.argmax(axis=1), np.arange(len(table))
    found = table[["id", "path", "label"]].assign(
        predicted=names[guesses],
        probability=shares[rows, guesses],
        label_probability=np.where(labels >= 0, shares[rows, labels], np.nan),
    )
    found.index = pd.Index(rows)
    return found.sort_values("probability", kind="stable")


def mistakes_figure(
    table: pd.DataFrame, pixels: Callable[[int], np.ndarray], path: str | Path | None = None
) -> Image.Image | None:
    """Draws the most confident mistakes of a split's table, each with file name, label and prediction; None for none.

    `pixels` of a row of the table are uint8 (H, W, 1 or 3), asked for those that are drawn alone; `path` is of a PNG.
    """
    from PIL import Image, ImageDraw

    wrong = mistakes(table)
    if wrong.empty:
        return None
    shown = wrong.head(MOST_SHOWN)
    heading, plain, bold, small = face(26, bold=True), face(17), face(17, bold=True), face(14)
    small_bold = face(14, bold=True)
    of = f"{len(wrong):,} mistakes" if len(wrong) > 1 else "One mistake"
    title = f"{of} among {int((table['label'] != '').sum()):,} images"
    first = "the most confident first" if len(shown) == len(wrong) else f"the {len(shown)} most confident"
    note = f"label → prediction; {first}" if len(wrong) > 1 else "label → prediction"
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    top, height = MARGIN + 88, CELL + 8 + 3 * LINE + GAP
    width = max(columns * (CELL + GAP) - GAP, int(heading.getlength(title)) + 1, int(plain.getlength(note)) + 1)
    sheet = Image.new("RGB", (width + 2 * MARGIN, top + rows * height - GAP + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=heading, anchor="lt")
    pen.text((MARGIN, MARGIN + 42), note, fill=QUIET, font=plain, anchor="lt")
    for place, mistake in enumerate(shown.reset_index(names="row").to_dict("records")):
        x, y = MARGIN + place % columns * (CELL + GAP), top + place // columns * height
        pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill="#f1f3f5")
        image = thumbnail(pixels(mistake["row"]), CELL)
        sheet.paste(image, (x + (CELL - image.width) // 2, y + (CELL - image.height) // 2))
        share = percent(mistake["probability"])
        for line, (text, end, color, font) in enumerate(
            (
                (PurePath(mistake["path"] or mistake["id"]).name, "", QUIET, small),
                (mistake["label"], "", INK, bold),
                (f"→ {mistake['predicted']}", f" {share}", WRONG, plain),
            )
        ):
            if font.getlength(text + end) > CELL:  # rather smaller than cut
                font = small_bold if font is bold else small
            text = _fitted(printable(text), CELL - font.getlength(end), font)
            pen.text((x, y + CELL + 22 + line * LINE), text + end, fill=color, font=font, anchor="ls")
    if path is not None:
        with replacing(path) as temporary:
            sheet.save(temporary, format="PNG", compress_level=3)
    return sheet


def _fitted(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut in the middle until it is no wider than so many pixels."""
    length = len(text)
    while font.getlength(shortened := shorten(text, length)) > width and length > 3:
        length -= 1
    return shortened
