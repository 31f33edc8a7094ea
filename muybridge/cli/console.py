"""What commands share: errors as one message and exit code 2, progress bars, quiet libraries."""

from __future__ import annotations

import functools
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from muybridge.errors import Notice, UserError
from muybridge.waiting import wait_passively

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])


class Watcher(Protocol):
    """Who watches a command in place of a terminal: the page, which runs the very commands of this command line."""

    def say(self, text: str) -> None:
        """A notice or an error of the command, one line."""

    def step(self, label: str, done: int, total: int, state: Any) -> None:
        """A step of a bar; a sampler's state where it is one. May raise KeyboardInterrupt, as Ctrl-C does."""

    def opened(self, what: tuple[Any, ...], open_it: Callable[[], Any]) -> Any:
        """A pipeline: opened now, or kept since it was last."""


#: Of the command that runs in this context; None where it is a terminal.
WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def tell_user(text: str, colour: str | None = None) -> None:
    """A line beside what a command writes: on stderr, or for whoever watches."""
    watcher = WATCHER.get()
    if watcher is None:
        typer.secho(text, fg=colour, err=True)
    else:
        watcher.say(text)


def command(function: F) -> F:
    """Turn a UserError, and what the system refuses, into a message on stderr and exit code 2, an interrupt into exit
    code 130."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        quiet_libraries()
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise _refused(str(error)) from error
        except OSError as error:
            where = ": ".join(str(name) for name in (error.filename, error.filename2) if name)
            raise _refused(f"{where or 'the system refuses'}: {error.strerror or error}") from error
        except Exception as error:
            told = _of_the_machine(error)
            if told is None:
                raise
            raise _refused(told) from error
        except KeyboardInterrupt:
            tell_user("interrupted")
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


def _of_the_machine(error: Exception) -> str | None:
    """A message for what libraries raise, in kinds of their own, where memory or a disk is full; None for faults of
    ours."""
    if type(error).__name__ == "SafetensorError":
        return f"weights cannot be read or written: {error}"
    full = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    if full or isinstance(error, MemoryError):
        return "there is not enough memory for this; ask for fewer frames, a smaller size or a smaller batch"
    return None


def _refused(message: str) -> typer.Exit:
    tell_user(f"error: {message}", "red")
    return typer.Exit(2)


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
            tell_user(f"note: {message}", "yellow")
        told.add(str(message))

    warnings.showwarning = show
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)


def plain_console(stderr: bool = False) -> Console:
    """A console that prints what it is given: square brackets in names and files are no markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False)


def progress(transient: bool = False) -> Progress:
    """Bars with what is done, of how many, and the time that is left."""
    from muybridge.progress import Bars

    return Bars(plain_console(True), transient=transient)


@contextmanager
def steps_bar(label: str, total: int) -> Iterator[Callable[[Any], None]]:
    """A progress bar that advances by one each call."""
    watcher = WATCHER.get()
    if watcher is not None:
        steps = count(1)
        yield lambda state: watcher.step(label, next(steps), total, state)
        return
    with progress(transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda _: shown.advance(task)


def bytes_text(size: float, bound: bool = False) -> str:
    """A number of bytes in words; as an upper bound it is rounded up, to a hundredth."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    if bound:
        return f"{math.ceil(100 * size) / 100:.2f} {unit}"
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def time_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
