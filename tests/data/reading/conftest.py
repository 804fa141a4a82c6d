"""Folders of files of which only the names are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """`tree("cat/3*.jpg", "docs/a.pdf")` is a folder with `cat/1.jpg` … `cat/3.jpg` and `docs/a.pdf`."""

    def make(*patterns: str) -> Path:
        for pattern in patterns:
            folder, name = (tmp_path / "data" / pattern).parent, Path(pattern).name
            folder.mkdir(parents=True, exist_ok=True)
            count, star, rest = name.rpartition("*")
            prefix, number = count.rstrip("0123456789"), count[len(count.rstrip("0123456789")) :]
            names = [f"{prefix}{place + 1}{rest}" for place in range(int(number))] if star else [name]
            for one in names:
                (folder / one).write_bytes(b"only the name is read here")
        return tmp_path / "data"

    return make
