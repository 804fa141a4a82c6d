"""Tables for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], numbers: Collection[str] = (), rule: bool = True
) -> None:
    """Prints a table as it is, the columns `numbers` to the right; without a terminal nothing is folded."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if rule else None, pad_edge=rule)
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 1000).print(table)
