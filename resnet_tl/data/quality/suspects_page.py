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
OFTEN = 5
"""Suspects from which on a pair of classes has a section of its own."""
UNSUSPECTED = 12
"""Images that are shown where none is suspect: those whose labels are least probable."""
ADVICE = "Look at them, and write relabel or exclude into the column action of the CSV file where you agree."


def write_suspects_page(
    table: pd.DataFrame,
    index: ImageIndex,
    path: str | Path,
    lines: Sequence[str],
    value_range: ValueRange | None = None,
) -> None:
    """Writes the page of a table as of `evaluation.labels.suspects`, frequent pairs of classes first."""
    splits = dict(zip(index.ids(), index.table["split"], strict=True))

    def card(row: Mapping[Any, Any]) -> Card:
        facts = ", ".join(part for part in (f"labelled {row['label']}", splits[row["path"]]) if part)
        copies = f"; {row['copies']} more of this picture" if row["copies"] else ""
        looks = f"looks like {row['suggested']}, {_percent(row['probability_of_suggested'])} sure"
        return Card([Picture(row["path"], facts)], f"{looks}{copies}")

    suspects = table[table["suspect"] == "yes"].to_dict("records")
    number = Counter((row["label"], row["suggested"]) for row in suspects)
    titles = {
        pair: f"labelled {pair[0]}, looks like {pair[1]}" for pair, count in number.most_common() if count >= OFTEN
    }
    others = "others" if titles else "suspicious labels"
    cards: dict[str, list[Card]] = {title: [] for title in (*titles.values(), others)}
    totals = dict.fromkeys(cards, 0)
    for place, row in enumerate(suspects):
        title = titles.get((row["label"], row["suggested"]), others)
        totals[title] += 1
        if place < MOST:
            cards[title].append(card(row))
    sections = [Section(title, "", totals[title], cards=found) for title, found in cards.items() if found]
    if not suspects:
        least = [card(row) for row in table.head(UNSUSPECTED).to_dict("records")]
        sections = [Section("the least probable labels, none of them suspect", "", len(least), cards=least)]
    title = f"Suspicious labels in {index.root.name}"
    write_page(path, index, title, [*lines, ADVICE], "labels", sections, value_range)


def _percent(share: float) -> str:
    """`98.3 %`, and no certainty where there is none."""
    return "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"
