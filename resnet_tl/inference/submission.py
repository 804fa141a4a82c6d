"""From a prediction table and a competition's sample file to a submission that cannot be wrong.

The sample decides everything: the ids, their order and spelling, the columns, and the form: `label`, one column of
class names; `probability`, one column of numbers, the probability of one class; or `class columns`, one per class.
"""

from __future__ import annotations

import csv
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_tl.data.reading.tables.matching import Images, parts_of
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.evaluation.predictions import classes_of, completed, contradiction, probabilities
from resnet_tl.files import replacing

LABEL = "label"


@dataclass(frozen=True)
class Submission:
    """What will be written (`frame`, with the sample's columns), its form, and what the user should know about it."""

    frame: pd.DataFrame
    form: str
    notes: tuple[str, ...]


def build_submission(
    predictions: pd.DataFrame, sample_path: str | Path, positive: str | None = None, clip: float | None = None
) -> Submission:
    """The predictions in the sample's form, checked.

    Images are found by id, with or without folder and extension. `positive` names the class whose probability a single
    column of numbers asks for ("dog" will do for "dogs"). `clip` c keeps probabilities within [c, 1 - c]; rows of class
    columns are made to sum to one again afterwards.

    Raises:
        UserError: with every reason found, not only the first.
    """
    sample, predictions = _read_csv(Path(sample_path)), completed(predictions)
    classes, reasons, notes = classes_of(predictions), list[str](), list[str]()
    id_column, rows = _match(sample, predictions["id"].tolist(), reasons, notes)
    form = None
    try:
        form = _recognise(sample, id_column, classes, positive, notes)
        _check_clip(clip, form)
    except UserError as error:
        reasons.append(str(error))
    asked = predictions.iloc[rows]
    _check_values(asked, reasons)
    if clause := contradiction(predictions):
        reasons.append(clause)
    if form is None or reasons:
        raise UserError(f"{sample_path}: no submission can be made of it:" + _sentence(reasons))

    frame = sample.copy()
    if form.name == LABEL:
        frame[list(form.columns)] = asked[["predicted"]].to_numpy(object)
    else:
        values = probabilities(asked)[:, [classes.index(name) for name in form.columns.values()]]
        frame[list(form.columns)] = _clipped(values, clip, notes)
    return Submission(frame, form.name, tuple(notes))


def write_submission(submission: Submission, path: str | Path) -> None:
    """Writes the CSV, reads it back and compares; only a file that holds what was meant takes the place of `path`."""
    frame = submission.frame
    with replacing(path) as temporary:
        # As the sample spells them, even what a spreadsheet takes for formulas: a scorer compares ids by character.
        frame.to_csv(temporary, index=False, na_rep="nan", lineterminator="\n", encoding="utf-8")
        written = _read_csv(temporary)
        is_same_shape = written.columns.equals(frame.columns) and len(written) == len(frame)
        if not (is_same_shape and (written.astype(frame.dtypes) == frame).all(axis=None)):
            raise OSError(f"{path}: what was written does not read back the same, so the file was not kept.")


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV file as text: nothing is guessed, so "0001", "1" and "1.0" stay what they are."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: this is not a CSV file in UTF-8 ({error}).") from error
    if len(lines) < 2:
        raise UserError(f"{path}: a header and at least one row are needed, but there are {len(lines)} lines.")
    header = lines[0]
    if len(header) < 2 or len(set(header)) < len(header):
        raise UserError(f"{path}: two or more columns of different names are needed, but they are {listed(header)}.")
    for number, line in enumerate(lines):
        if len(line) != len(header):
            raise UserError(f"{path}: row {number} has {len(line)} values where the header has {len(header)}.")
    return pd.DataFrame(lines[1:], columns=header, dtype=object)


def _match(sample: pd.DataFrame, ids: Sequence[str], reasons: list[str], notes: list[str]) -> tuple[str, list[int]]:
    """Name of the id column, and for each row of the sample that has exactly one image that image's row."""
    images = Images(ids)
    # The id column is the one with the most different values that are images; mostly, and when in doubt, the first.
    stems = ({parts_of(value).stem for value in set(sample[name])} for name in sample.columns)
    column = sample.columns[int(np.argmax([len(images.by_stem.keys() & names) for names in stems]))]
    asked = sample[column].tolist()
    found = {value: images.meant_by(value) for value in dict.fromkeys(asked)}
    rows = [found[value][0] for value in asked if len(found[value]) == 1]

    twice = [value for value, count in Counter(asked).items() if count > 1]
    missing = [value for value, fit in found.items() if not fit]
    ambiguous = [value for value, fit in found.items() if len(fit) > 1]
    shared: defaultdict[int, list[str]] = defaultdict(list)
    for value, fit in found.items():
        if len(fit) == 1:
            shared[fit[0]].append(value)
    if twice:
        reasons.append(f"{len(twice)} ids stand in it more than once ({listed(twice, 3)})")
    if missing:
        reasons.append(
            f"{len(missing)} of its {len(asked)} ids have no image ({listed(missing, 3)}); "
            f"there are {len(ids)} images ({listed(ids, 3)})"
        )
    if ambiguous:
        example = " and ".join(ids[row] for row in found[ambiguous[0]][:2])
        reasons.append(f"{len(ambiguous)} ids fit more than one image ({ambiguous[0]!r} fits {example})")
    if same := [(ids[row], values) for row, values in shared.items() if len(values) > 1]:
        image, values = same[0]
        reasons.append(f"{len(same)} images fit more than one id ({image} fits {listed(values, 3)})")
    if unasked := len(ids) - len(shared):
        notes.append(f"{unasked} of {len(ids)} images are not asked for by the sample and were left out")
    return column, rows


class _Form(NamedTuple):
    name: str
    columns: dict[str, str]  # of the sample -> class whose probability it asks for, "" for a label


def _recognise(
    sample: pd.DataFrame, id_column: str, classes: Sequence[str], positive: str | None, notes: list[str]
) -> _Form:
    others = [name for name in sample.columns if name != id_column]
    if len(others) == 1:
        column, values = others[0], sample[others[0]].tolist()
        is_empty = not any(values)  # a form to be filled in
        # Where "0" and "1" are the classes' names, 0 is a label unless a probability is asked for.
        if (is_empty or set(values) <= set(classes)) and positive is None:
            if is_empty:
                notes.append(f"the sample's '{column}' is empty and gets class names")
            if len(classes) == 2 and (is_empty or all(map(_is_number, values))):
                positive = shlex.quote(classes[1])
                notes.append(f"if the competition wants probabilities, for AUC or log loss, add --positive {positive}")
            return _Form(LABEL, {column: ""})
        if is_empty or all(map(_is_number, values)):
            return _one_probability(column, values if any(values) else ["0.5"], classes, positive, notes)
        if positive is not None:
            raise UserError(f"its column '{column}' holds text, so --positive has no meaning for it; leave it out")
        odd = next(value for value in values if value not in classes)
        raise UserError(f"its column '{column}' holds '{odd}', which is no class of the model.{nearest(odd, classes)}")
    if positive is not None:
        raise UserError("it has a column for each class, so --positive has no meaning for it; leave it out")
    columns = {column: _class_called(column, classes) for column in others}
    named = {column: name for column, name in columns.items() if name is not None}
    counts = Counter(named.values())
    problems = {
        "columns that are no class of the model": [column for column in columns if column not in named],
        "classes of the model without a column": [name for name in classes if not counts[name]],
        "classes of the model with more than one column": [name for name in classes if counts[name] > 1],
    }
    if any(problems.values()):
        found = (f"{len(names)} {what} ({listed(names, 3)})" for what, names in problems.items() if names)
        raise UserError(f"it has {' and '.join(found)}")
    notes += [f"column '{column}' is class '{name}'" for column, name in named.items() if column != name]
    return _Form("class columns", named)


def _one_probability(
    column: str, values: Sequence[str], classes: Sequence[str], positive: str | None, notes: list[str]
) -> _Form:
    called = _class_called(column, classes)
    name = called if positive is None else _class_called(positive, classes)
    if positive is not None and name is None:
        raise UserError(
            f"--positive {positive} is no class of the model; the classes are {listed(classes)}."
            f"{nearest(positive, classes)}"
        )
    if called and name != called:
        raise UserError(f"its column '{column}' asks for class '{called}', but --positive says '{name}'; leave it out")
    if len(classes) > 2 and (name is None or any(float(value) > 1 for value in values)):
        raise UserError(
            f"its column '{column}' holds one number for {len(classes)} classes; add --positive CLASS if it is the "
            "probability of one of them; for numbers of classes write class names into the sample file"
        )
    if name is None:
        choices = " or ".join(f"--positive {shlex.quote(name)}" for name in classes)
        raise UserError(
            f"its column '{column}' asks for one probability and does not say of which class; add {choices}"
        )
    notes.append(f"column '{column}' is the probability of class '{name}'")
    if all(float(value).is_integer() for value in values):
        notes.append(
            f"the sample's '{column}' holds whole numbers, the submission probabilities: "
            "look up whether the competition wants them"
        )
    return _Form("probability", {column: name})


def _class_called(word: str, classes: Sequence[str]) -> str | None:
    """The class of that name; failing that, the only one that differs in case, spaces, underscores or a plural s."""
    if word in classes:
        return word
    plain = _plain(word)
    for spellings in ({plain}, {plain + "s", plain.removesuffix("s")}):
        if alike := [name for name in classes if _plain(name) in spellings]:
            return alike[0] if len(alike) == 1 else None
    return None


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "").replace("_", "")


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _check_clip(clip: float | None, form: _Form) -> None:
    if clip is None:
        return
    if form.name == LABEL:
        raise UserError("it asks for class names, so --clip has no meaning for it; leave it out")
    most = 1 / max(2, len(form.columns))
    if not 0 < clip < most:
        raise UserError(f"--clip is {clip:g}; it must be over 0 and under {most:.4g}")


def _check_values(asked: pd.DataFrame, reasons: list[str]) -> None:
    values = probabilities(asked)
    absent = np.isnan(values).any(axis=1)
    outside = ((values < 0) | (values > 1)).any(axis=1)
    uneven = ~absent & ~outside & (np.abs(values.sum(axis=1) - 1) > 1e-6)
    for wrong, what in (
        (absent, "predictions are not numbers (NaN)"),
        (outside, "predictions have a probability under 0 or over 1"),
        (uneven, "predictions have probabilities that do not sum to one"),
        ((asked["predicted"] == "").to_numpy(), "predictions abstain; predict again without --min_confidence"),
    ):
        if wrong.any():
            reasons.append(f"{wrong.sum()} {what} ({listed(asked['id'].to_numpy()[wrong], 3)})")


def _clipped(values: np.ndarray, clip: float | None, notes: list[str]) -> np.ndarray:
    """Probabilities (N, columns) within [clip, 1 - clip]; rows of several columns sum to one again."""
    if clip is None:
        return values
    clipped = np.clip(values, clip, 1 - clip)
    notes.append(f"{(clipped != values).sum()} of {values.size} probabilities were clipped to {clip:g} … {1 - clip:g}")
    return clipped / clipped.sum(axis=1, keepdims=True) if values.shape[1] > 1 else clipped


def _sentence(reasons: Sequence[str]) -> str:
    if len(reasons) == 1:
        return f" {reasons[0]}" if reasons[0].endswith((".", "?")) else f" {reasons[0]}."
    return "".join(f"\n- {reason}" for reason in reasons)
