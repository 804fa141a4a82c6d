"""Files of features, written batch by batch: Parquet, CSV or NumPy's .npz, by the suffix of their name."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, listed
from resnet_tl.files import as_cell, check_target, replacing

SUFFIXES = (".parquet", ".csv", ".npz")
_AT_ONCE = 1 << 24  # bytes


class Writer(Protocol):
    """Takes one batch after another."""

    def add(self, ids: Sequence[str], paths: Sequence[str], labels: Sequence[str], features: np.ndarray) -> None:
        """Texts of n images and their features (n, F) float32."""


def check_feature_file(path: Path) -> None:
    """Raises UserError for a name that says no format, a place that cannot be written, or what is not installed."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output is {path}; its name must end with {listed(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    check_target(path)
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise UserError('A .parquet file takes pyarrow: pip install "resnet-tl[parquet]", or write a .csv or .npz.')


@contextmanager
def feature_file(path: Path, width: int) -> Iterator[Writer]:
    """What writes a file of images with `width` features each, whole or not at all.

    Parquet: `id`, `path`, `label`, and `features`, a list of float32. CSV: the features are columns `f0`, `f1`, ...
    NumPy: arrays `id`, `path` and `label` (n,) of text and `features` (n, F) float32, without a pickle.
    """
    kinds: dict[str, Any] = {".parquet": _parquet, ".csv": _csv, ".npz": _npz}
    with replacing(path) as temporary, kinds[path.suffix.lower()](temporary, width) as writer:
        yield writer


@contextmanager
def _parquet(path: Path, width: int) -> Iterator[Writer]:
    """Batches are gathered into row groups: each has a head of its own, and a group of 32 rows is read slowly."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    texts = ("id", "path", "label")
    kinds = [(name, pa.string()) for name in texts]
    schema = pa.schema([*kinds, ("features", pa.list_(pa.float32(), width))])

    class Rows:
        def add(self, ids: Sequence[str], paths: Sequence[str], labels: Sequence[str], features: np.ndarray) -> None:
            columns = [pa.array(list(values), pa.string()) for values in (ids, paths, labels)]
            values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), width)
            waiting.append(pa.Table.from_arrays([*columns, values], schema=schema))
            if sum(table.nbytes for table in waiting) >= _AT_ONCE:
                write()

    def write() -> None:
        if waiting:
            file.write_table(pa.concat_tables(waiting))
            waiting.clear()

    waiting: list[Any] = []
    with ParquetWriter(path, schema, use_dictionary=["label"]) as file:  # few features or names are the same
        yield Rows()
        write()


@contextmanager
def _csv(path: Path, width: int) -> Iterator[Writer]:
    columns = [f"f{number}" for number in range(width)]

    class Rows:
        def add(self, ids: Sequence[str], paths: Sequence[str], labels: Sequence[str], features: np.ndarray) -> None:
            texts = {name: list(map(as_cell, of)) for name, of in (("id", ids), ("path", paths), ("label", labels))}
            table = pd.concat([pd.DataFrame(texts), pd.DataFrame(features, columns=columns)], axis=1)
            table.to_csv(file, index=False, header=False, lineterminator="\n")

    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(("id", "path", "label", *columns)) + "\n")
        yield Rows()


@contextmanager
def _npz(path: Path, width: int) -> Iterator[Writer]:
    """The numbers go through a file of their own, for their count, which stands in front, is known at the end alone."""
    texts: list[list[str]] = [[], [], []]

    class Rows:
        def add(self, ids: Sequence[str], paths: Sequence[str], labels: Sequence[str], features: np.ndarray) -> None:
            for kept, new in zip(texts, (ids, paths, labels), strict=True):
                kept.extend(new)
            numbers.write(np.ascontiguousarray(features, np.float32).tobytes())

    with tempfile.TemporaryFile(dir=path.parent) as numbers:
        yield Rows()
        numbers.seek(0)
        with zipfile.ZipFile(path, "w") as archive:
            for name, values in zip(("id", "path", "label"), texts, strict=True):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.array(values, dtype=np.str_), allow_pickle=False)
            with archive.open("features.npy", "w", force_zip64=True) as file:
                _write_numbers(file, numbers, (len(texts[0]), width))


def _write_numbers(file: IO[bytes], numbers: IO[bytes], shape: tuple[int, int]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    while part := numbers.read(_AT_ONCE):
        file.write(part)
