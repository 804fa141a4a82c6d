"""Tables in which a person says something of single images, such as that one is to be left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.data.reading.tables.table_files import read_table
from resnet_tl.errors import UserError, listed, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ListedImages:
    """The rows of such a file that count, each of which has a `path`, as in the index or absolute."""

    file: Path
    option: str  # by which the file was given
    frame: pd.DataFrame
    was_written: bool = False  # by us, from a data set as it was then

    @classmethod
    def read(cls, file: str | os.PathLike[str], option: str) -> ListedImages:
        """UserError where the file cannot be read, or has no column `path`."""
        file = Path(file).expanduser()
        frame = read_table(file).frame
        if "path" not in frame:
            raise UserError(f"{option}: {file} has no column 'path', only {listed(frame.columns)}.")
        return cls(file, option, frame[frame["path"] != ""])

    def where(self, column: str, word: str, others: Sequence[str]) -> ListedImages:
        """Those of which a column that we wrote says a word; UserError where it says none of ours."""
        said = self.frame[column].map(lambda cell: cell.strip().lower())
        unknown = sorted(set(self.frame[column][~said.isin((word, *others, ""))]))
        if unknown:
            *first, last = (word, *others)
            raise UserError(f"{self.file} has the {column} '{unknown[0]}'; it must be {', '.join(first)} or {last}.")
        return replace(self, frame=self.frame[said == word], was_written=True)

    def rows(self, index: ImageIndex) -> list[int]:
        """The row of each image in the index; -1 where the file was removed since we wrote the table.

        UserError for an image that is not in the data set.
        """
        number = {path: row for row, path in enumerate(index.ids())}
        paths = [_as_in_index(path, index.root, number) for path in self.frame["path"]]
        unknown = list(dict.fromkeys(path for path in paths if path not in number))
        if self.was_written:
            # Path.exists() raises for a name that is too long.
            removed = [path for path in unknown if not os.path.exists(index.root / path)]  # noqa: PTH110
            if removed and len(removed) == len(set(paths)):
                raise UserError(
                    f"{self.option}: none of the images that {self.file} names, such as {removed[0]}, is in "
                    f"{index.root} any more; leave {self.option} out, or look at the images again."
                )
            unknown = [path for path in unknown if path not in removed]
            if removed:
                log.info(
                    f"{self.file}: {len(removed)} of the {len(set(paths))} images are not in {index.root} any more"
                )
        if unknown:
            count = "an image that is" if len(unknown) == 1 else f"{len(unknown)} images that are"
            near = nearest(unknown[0], index.ids()) if len(index) <= 10_000 else ""
            raise UserError(
                f"{self.option}: {self.file} names {count} not in {index.root}, such as {unknown[0]}; paths are "
                f"relative to that folder, as `resnet-tl data check` writes them.{near}"
            )
        return [number.get(path, -1) for path in paths]


def _as_in_index(path: str, root: Path, known: Container[str]) -> str:
    """A path as it was written, where there is such an image; else as another system or a careless hand writes it."""
    return path if path in known else relative(os.path.normpath(path.strip().replace("\\", "/")), root)
