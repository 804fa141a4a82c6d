"""What is seen of a fit in a notebook: its lines and a live bar below them, in one output that is redrawn in place."""

from __future__ import annotations

import time
from html import escape
from io import StringIO
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from resnet_tl.errors import printable
from resnet_tl.terminal import Screen

REDRAWN_EVERY = 0.2
"""Seconds; each time the notebook is sent the whole output."""
WIDTH = 100
"""Characters of a line."""


class NotebookScreen(Screen):
    """Takes what a terminal's screen takes; a bar leaves nothing behind."""

    def __init__(self) -> None:
        super().__init__(Console(file=StringIO(), width=WIDTH, color_system=None, force_jupyter=False))
        self._display: Any = None  # the output in the cell, once there is something to show
        self._bar: dict[str, Any] | None = None
        self._drawn = float("-inf")

    @property
    def is_terminal(self) -> bool:
        """Whether there are live bars."""
        return True

    def print(self, what: Any = "", is_command: bool = False) -> None:
        """A line of text, or what rich can draw."""
        super().print(what, is_command)
        self._draw()

    def begin(self, what: str, total: float | None) -> TaskID:
        """A new live bar in place of another one; `what` says what is done."""
        self._bar = {"description": what, "text": "", "completed": 0, "total": total, "began": time.monotonic()}
        self._draw()
        return TaskID(0)

    def update(self, task: TaskID, **fields: Any) -> None:
        """Shows how far the bar is: `completed`, `text`, `description`."""
        if self._bar is not None:
            self._bar |= fields
            if time.monotonic() - self._drawn >= REDRAWN_EVERY:
                self._draw()

    def end(self, task: TaskID) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar = None
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        self._drawn = time.monotonic()
        lines = "\n".join(line.rstrip() for line in self.console.file.getvalue().splitlines())  # type: ignore[attr-defined]
        page = f'<pre style="line-height:1.4;font-family:monospace;margin:0">{escape(lines)}</pre>{self._bar_page()}'
        shown = {"text/plain": lines, "text/html": page}
        if self._display is None:
            self._display = display(shown, raw=True, display_id=True)
        else:
            self._display.update(shown, raw=True)

    def _bar_page(self) -> str:
        if self._bar is None:
            return ""
        done, total = self._bar["completed"], self._bar["total"]
        share = f'value="{done}" max="{total}" ' if total and total > 0 else ""  # without a total it moves to and fro
        words = "  ".join(filter(None, (self._bar["description"], self._bar["text"], self._time_left())))
        return (
            f'<div style="margin-top:4px"><progress {share}style="width:12em;vertical-align:middle"></progress> '
            f'<span style="font-family:monospace;white-space:pre"> {escape(printable(words))}</span></div>'
        )

    def _time_left(self) -> str:
        assert self._bar is not None
        done, total = self._bar["completed"], self._bar["total"]
        if not done or not total or total < done:
            return ""
        minutes, seconds = divmod(round((time.monotonic() - self._bar["began"]) * (total - done) / done), 60)
        return f"{minutes}:{seconds:02} left"
