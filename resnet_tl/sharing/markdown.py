"""Texts from anywhere as parts of a Markdown page: nothing in a name can be markup, a link, HTML or a new row."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resnet_tl.errors import listed

# Of `_` those that are not within a word; of `]` and `:` those that would make a link or an emoji.
_MARKUP = re.compile(
    r"[&<>\\`*|~#$@]|\b_|_\b|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|:(?=[/\w])|(?<=www)\.", re.IGNORECASE
)
_PLACE = re.compile(r"(?<![\w.<>/\\~])(?:~|[A-Za-z]:(?=[\\/])|\\\\|(?=/\w))[\\/]?(?:[^\s;,|]*[\\/])*(?=[^\s;,|])")


def plain(text: object) -> str:
    """A text of one line in which every character stands for itself, in running text and in the cell of a table.

    What could be markup becomes a character reference, which Markdown takes as that character and nothing else.
    """
    shown = listed([text])  # control characters in words
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)


def without_folders(text: object) -> str:
    """A text in which each path from the root of a file system, or from a home, is its last part alone."""
    return _PLACE.sub("", str(text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are Markdown already; the columns `numbers`, by their places, are set to the right."""
    rule = ["---:" if place in numbers else "---" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences that are Markdown already."""
    return "\n".join(f"- {sentence}" for sentence in sentences)
