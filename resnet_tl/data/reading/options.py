"""How a person says what lies on disk, where looking is not enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["auto", "class_folders", "split_folders", "flat_names"]


@dataclass(frozen=True)
class Reading:
    """What is said about the images that are read; all that is left out is found by looking."""

    layout: Layout = "auto"
    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    image_folder: str | None = None
    on_bad_image: Literal["stop", "skip"] | None = None  # of what a table names in vain; None stops and has no option


BY_LOOKING = Reading()
"""Nothing is said."""
