"""What commands share: errors as one message and exit code 2, progress bars, quiet libraries."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from muybridge.errors import Notice, UserError
from muybridge.waiting import wait_passively

F = TypeVar("F", bound=Callable[..., Any])


def command(function: F) -> F:
    """Turn a UserError into a message on stderr and exit code 2, an interrupt into exit code 130."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        quiet_libraries()
        try:
            return function(*args, **kwargs)
        except UserError as error:
            typer.secho(f"error: {error}", fg="red", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.secho("interrupted", err=True)
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


def quiet_libraries() -> None:
    """No network, no library chatter between our own lines, and threads that let other work go on."""
    wait_passively()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=Notice)
    told: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            typer.secho(f"note: {message}", fg="yellow", err=True)
        told.add(str(message))

    warnings.showwarning = show
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)


@contextmanager
def steps_bar(label: str, total: int) -> Iterator[Callable[[Any], None]]:
    """A progress bar that advances by one each call."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda _: progress.advance(task)


def bytes_text(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def time_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
