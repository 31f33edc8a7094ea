"""Bars of long work: on a terminal, and in a file where a queue (`muybridge.jobs`) reads how far its job is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from muybridge.files import write_json

#: In the environment: the file that is told how far the work is.
FILE = "MUYBRIDGE_PROGRESS"
#: Seconds between two writings of it.
EVERY = 0.5


class Bars(Progress):
    """Bars with what is done, of how many, and the time that is left.

    Args:
        console: where they are drawn.
        shown: draw them; the file is told either way.
        transient: they vanish when they are full.
    """

    def __init__(self, console: Console, shown: bool = True, transient: bool = False):
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        self._file, self._told = os.environ.get(FILE, ""), 0.0
        super().__init__(*columns, console=console, disable=not shown, transient=transient)

    def update(self, task_id: TaskID, **values: Any) -> None:
        super().update(task_id, **values)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if not self._file:
            return
        task, now = self._tasks[task_id], time.monotonic()
        if now - self._told < EVERY and not task.finished:
            return
        self._told = now
        write_json(Path(self._file), {"what": task.description, "done": task.completed, "total": task.total})
