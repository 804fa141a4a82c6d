"""From a file of rows (.csv, .tsv, .jsonl, .txt), whoever wrote it, to a table of text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from resnet_tl.data.reading.folders.tree import is_image
from resnet_tl.errors import UserError, nearest

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".txt"})
SEPARATORS = ",\t;|"
_SNIFFED_ROWS = 20
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TableFile:
    """The rows of a file: text (in JSON lines, values), columns named as its header does, else `column 1`, …"""

    frame: pd.DataFrame  # a column without a name, which numbers the rows, is left out
    has_header: bool = True
    notes: list[str] = field(default_factory=list)  # what its reader should know


def without_header(file: TableFile) -> TableFile:
    """The table with its first line among the rows."""
    names = [f"column {number + 1}" for number in range(file.frame.shape[1])]
    rows = [file.frame.columns.tolist(), *file.frame.to_numpy().tolist()]
    return TableFile(pd.DataFrame(rows, columns=names, dtype=object), has_header=False, notes=file.notes)


def is_table(path: Path) -> bool:
    """Whether a file of this name is read as a table."""
    return path.suffix.lower() in TABLE_SUFFIXES


def read_table(path: Path, most_bytes: int | None = None) -> TableFile:
    """Reads UTF-8, UTF-16 with its mark, or else Windows' Latin letters; values apart by comma, tab, semicolon or bar.

    `most_bytes` reads whole lines from the file's beginning alone.

    Raises:
        UserError: there is no such file, or it holds no table.
    """
    if not path.exists():
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UserError(f"{path} does not exist.{near}")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; give a table that lies on the disk.")
    try:
        with path.open("rb") as file:
            content = file.read(-1 if most_bytes is None else most_bytes)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    text, notes = _decoded(content, path)
    if most_bytes is not None and len(content) == most_bytes:
        text = text[: text.rfind("\n") + 1]
    text = re.sub("\r\n?", "\n", text)
    text = re.sub("^sep=.\n", "", text)  # Excel's
    if not text.strip():
        raise UserError(f"{path} is empty; a table of images has a row for each of them.")
    if path.suffix.lower() == ".jsonl":
        return TableFile(_json_lines(text, path), notes=notes)
    frame, has_header = _values(text, path)
    return TableFile(frame, has_header, notes)


def _decoded(content: bytes, path: Path) -> tuple[str, list[str]]:
    encoding = next((encoding for bom, encoding in _BOMS.items() if content.startswith(bom)), "utf-8")
    # The last character may be cut where only the beginning was read.
    decoder = codecs.getincrementaldecoder(encoding)
    try:
        text = decoder().decode(content)
    except UnicodeDecodeError:
        text = ""
    if not content or (text and "\0" not in text):
        return text, []
    if b"\0" in content:
        raise UserError(f"{path} is no text, so no table; save it as CSV in UTF-8.")
    return content.decode("cp1252", errors="replace"), ["not in UTF-8, read as Windows-1252"]


def _json_lines(text: str, path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} has no JSON in line {number}: {error}.") from None
        if not isinstance(row, dict):
            raise UserError(f'{path} has no object such as {{"path": "1.jpg", "label": "cat"}} in line {number}.')
        rows += [row] if row else []
    return pd.DataFrame(rows, dtype=object)


def _values(text: str, path: Path) -> tuple[pd.DataFrame, bool]:
    """The rows of separated values, and whether a header names them: a line that names an image is none."""
    separator = _separator(text, path)
    try:  # text as it stands: a class may be called "NA" or "007"; without an index, or longer rows would make one
        first = next((line for line in csv.reader(io.StringIO(text), delimiter=separator) if line), [])
        has_header = not any(is_image(cell.strip()) for cell in first)
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            frame = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                header=0 if has_header else None,
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                index_col=False,
            )
    except pd.errors.ParserWarning:
        raise UserError(f"{path} has rows with more values than its first line has columns; correct them.") from None
    except (ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read as a table: {str(error).strip()}.") from error
    if not has_header:
        frame.columns = pd.Index([f"column {number + 1}" for number in range(frame.shape[1])])
    nameless = [name for name in frame.columns if re.fullmatch(r"Unnamed: \d+(\.\d+)*(_level_\d)?|", name.strip())]
    return frame.drop(columns=nameless).rename(columns=str.strip), has_header


def _separator(text: str, path: Path) -> str:
    """The one that divides the first lines into equally many values; failing that, the most of the first line."""
    lines = text[:100_000].splitlines()[:_SNIFFED_ROWS]
    separators = SEPARATORS + " " * (path.suffix.lower() == ".txt")
    try:
        widths = {one: [len(row) for row in csv.reader(lines, delimiter=one) if row] for one in separators}
    except csv.Error:  # a value longer than any name
        return ","
    even = [one for one, found in widths.items() if found and len(set(found)) == 1 and found[0] > 1]
    return max(even or SEPARATORS, key=lambda one: widths[one][:1])
