"""What is seen of a fit in a notebook: its lines and live bars below them, in one output that is redrawn in place."""

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
        self._live: dict[TaskID, dict[str, Any]] = {}
        self._drawn = float("-inf")

    @property
    def is_terminal(self) -> bool:
        """Whether there are live bars."""
        return True

    def print(self, what: Any = "", is_command: bool = False) -> None:
        """A line of text, or what rich can draw."""
        with self._lock:
            super().print(what, is_command)
            self._draw()

    def begin(self, what: str, total: float | None) -> TaskID:
        """A new live bar below the others; `what` says what is done."""
        with self._lock:
            task = TaskID(max(self._live, default=-1) + 1)
            self._live[task] = {"description": what, "total": total, "began": time.monotonic()}
            self._draw()
            return task

    def update(self, task: TaskID, **fields: Any) -> None:
        """Shows how far a bar is: `completed`, `text`, `description`."""
        with self._lock:
            self._live[task] |= fields
            if time.monotonic() - self._drawn >= REDRAWN_EVERY:
                self._draw()

    def end(self, task: TaskID) -> None:
        """Removes a bar."""
        with self._lock:
            del self._live[task]
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        self._drawn = time.monotonic()
        written = self.console.file.getvalue()  # type: ignore[attr-defined]
        lines = "\n".join(line.rstrip() for line in written.splitlines())
        page = f'<pre style="line-height:1.4;font-family:monospace;margin:0">{escape(lines)}</pre>'
        shown = {"text/plain": lines, "text/html": page + "".join(map(_bar, self._live.values()))}
        if self._display is None:
            self._display = display(shown, raw=True, display_id=True)
        else:
            self._display.update(shown, raw=True)


def _bar(task: dict[str, Any]) -> str:
    """HTML of a bar; without a total it moves to and fro."""
    done, total = task.get("completed", 0), task["total"]
    share = f'value="{done}" max="{total}" ' if total and total > 0 else ""
    words = "  ".join(filter(None, (task["description"], task.get("text"), _time_left(done, total, task["began"]))))
    return (
        f'<div style="margin-top:4px"><progress {share}style="width:12em;vertical-align:middle"></progress> '
        f'<span style="font-family:monospace;white-space:pre"> {escape(printable(words))}</span></div>'
    )


def _time_left(done: float, total: float | None, began: float) -> str:
    if not done or not total or total <= done:
        return ""
    minutes, seconds = divmod(round((time.monotonic() - began) * (total - done) / done), 60)
    return f"{minutes}:{seconds:02} left"
