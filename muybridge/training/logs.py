"""Where a run writes down what happens: log.jsonl always, TensorBoard where it is installed, the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from muybridge.files import write_text


class RunLog:
    """Append-only records of a run; on resume, records after the resumed step are dropped.

    Args:
        folder: of the run.
        start: the step the run goes on from.
        quiet: write nothing (processes other than the main one).

    Attributes:
        before: the held-out error before the first step, where it was measured.
    """

    def __init__(self, folder: Path, start: int, console: Console, quiet: bool = False):
        self.console, self.quiet, self._file, self._board = console, quiet, None, None
        self.before: float | None = None
        if quiet:
            return
        path = folder / "log.jsonl"
        kept = _records_up_to(path, start)
        write_text(path, "".join(line + "\n" for line in kept))
        first = json.loads(kept[0]) if kept else {}
        self.before = first.get("validation_error") if first.get("step") == 0 else None
        self._file = path.open("a", encoding="utf-8", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
        except ImportError:
            console.print("TensorBoard is not installed; log.jsonl has the same numbers")

    def write(self, step: int, **values: Any) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)

    def say(self, text: str, style: str | None = None) -> None:
        if not self.quiet:
            self.console.print(text, style=style, highlight=False)

    def warn(self, step: int, warnings: list[str]) -> None:
        """Say and record what looks wrong."""
        for text in warnings:
            self.say(f"warning, step {step}: {text}", style="bold yellow")
            self.write(step, warning=text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _records_up_to(path: Path, step: int) -> list[str]:
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):  # the line a kill cut in two
            continue
    return kept
