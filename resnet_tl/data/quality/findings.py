"""The table of all that was found in a data set, its summary, and the CSV file that a user acts on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.audit import Audit
from resnet_tl.data.quality.class_findings import class_findings
from resnet_tl.data.quality.duplicate_findings import duplicate_findings
from resnet_tl.data.quality.duplicates import Duplicates
from resnet_tl.data.quality.file_findings import file_findings
from resnet_tl.data.quality.finding_kinds import KINDS, Finding
from resnet_tl.files import replacing

COLUMNS = list(Finding._fields)


def find_all(
    index: ImageIndex, audit: Audit, contents: np.ndarray, duplicates: Duplicates, others: Iterable[Finding] = ()
) -> pd.DataFrame:
    """All findings, the gravest kinds first: columns `path, finding, detail, partner, suggestion`, all text.

    Following every suggestion leaves each class that has one an image to train on.

    Args:
        index: the images.
        audit: of them.
        contents: their `content_digests` (N, 32).
        duplicates: among them.
        others: findings that were made elsewhere, such as by a network's features.
    """
    found = [
        *file_findings(index, audit),
        *duplicate_findings(index, contents, duplicates),
        *class_findings(index, audit),
        *others,
    ]
    order = {kind: place for place, kind in enumerate(KINDS)}
    found.sort(key=lambda finding: order[finding.finding])
    table = pd.DataFrame(found, columns=COLUMNS, dtype=object)
    return _with_classes_kept(table, index, audit)


def counts(findings: pd.DataFrame) -> dict[str, int]:
    """How many findings there are of each kind, the gravest first."""
    number = findings["finding"].value_counts()
    return {kind: int(number[kind]) for kind in KINDS if kind in number}


def stops(findings: pd.DataFrame) -> bool:
    """Whether something was found that keeps a fit from starting."""
    return any(KINDS[kind].severity == "stop" for kind in counts(findings))


def in_one_line(findings: pd.DataFrame) -> str:
    """The counts as one line, such as `3 duplicate, 28 near_duplicate`; "" when nothing was found."""
    return ", ".join(f"{count} {kind}" for kind, count in counts(findings).items())


def write_findings(findings: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all.

    A path that a spreadsheet would take for a formula, or that begins with a blank, gets `./` in front, which names the
    same file.
    """
    safe = findings.assign(**{name: findings[name].map(_no_formula) for name in ("path", "partner")})
    with replacing(path) as temporary:
        safe.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def _no_formula(path: str) -> str:
    return f"./{path}" if path[:1] in tuple("=+-@ ") else path


def _with_classes_kept(table: pd.DataFrame, index: ImageIndex, audit: Audit) -> pd.DataFrame:
    """Takes back the suggestions for a class that they would leave without a training image."""
    number = {path: row for row, path in enumerate(index.ids())}
    suggested = table["suggestion"] == "exclude"
    gone = {number[path] for path in table.loc[suggested, "path"]}
    splits = index.table["split"].isin(("train", "")).to_numpy()
    left = [row for row in np.flatnonzero(splits).tolist() if row not in gone and row not in audit.bad]
    emptied = set(index.labels[sorted(gone)].tolist()) - set(index.labels[left].tolist())
    kept = {index.id(row) for row in gone if index.labels[row] in emptied and row not in audit.bad}
    return table.assign(suggestion=table["suggestion"].mask(suggested & table["path"].isin(kept), "look"))
