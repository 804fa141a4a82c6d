"""The suspicious labels as a page with thumbnails, sorted by what the images are labelled and what they look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.quality.page import Card, Picture, Section, write_page

MOST = 240
"""Images on the page, the most suspicious ones: with them it has about 2 MB."""
UNSUSPECTED = 12
"""Images that are shown where none is suspect: those whose labels are least probable."""
ADVICE = "look: write relabel or exclude into the column action of the CSV file, or leave keep"


def write_suspects_page(
    table: pd.DataFrame,
    index: ImageIndex,
    path: str | Path,
    lines: Sequence[str],
    value_range: ValueRange | None = None,
) -> None:
    """Writes the page of a table as of `evaluation.suspects`, the most frequent pairs of classes first."""
    splits = dict(zip(index.ids(), index.table["split"], strict=True))

    def card(row: Mapping[Any, Any]) -> Card:
        facts = ", ".join(part for part in (row["label"], splits[row["path"]]) if part)
        copies = f"; {row['copies']} more of this picture" if row["copies"] else ""
        chances = f"{row['suggested']} {row['probability_of_suggested']:.1%}, {row['label']} "
        return Card([Picture(row["path"], facts)], f"{chances}{row['probability_of_label']:.1%}{copies}")

    suspects = table[table["suspect"] == "yes"].to_dict("records")
    number = Counter((row["label"], row["suggested"]) for row in suspects)
    cards: dict[tuple[str, str], list[Card]] = {}
    for row in suspects[:MOST]:
        cards.setdefault((row["label"], row["suggested"]), []).append(card(row))
    sections = [
        Section(f"labelled {pair[0]}, looks like {pair[1]}", ADVICE, number[pair], cards=cards[pair])
        for pair, _ in number.most_common()
        if pair in cards
    ]
    if not suspects:
        least = [card(row) for row in table.head(UNSUSPECTED).to_dict("records")]
        sections = [Section("the least probable labels", "none of them is suspect", len(least), cards=least)]
    write_page(path, index, f"Suspicious labels in {index.root.name}", lines, "pair", sections, value_range)
