"""One process at a time in a folder: a lock that a crash lets go of by itself, and a note of who holds it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from muybridge.errors import UserError
from muybridge.files import read_mapping, write_json

#: Beside what a run writes: its host, its process, and since when.
RUNNING = ".running.json"


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[Callable[[], None]]:
    """Within this block no other process that asks does the same in this folder; made if it is not there.

    The lock is the system's, on the folder itself, so that nothing of ours lies in a folder that is then refused. Call
    what the block is given once the folder is known to be ours: it notes who holds the lock.

    Args:
        doing: in words, for the message ("training").

    Raises:
        UserError: another process does, or the folder cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: two at once go unnoticed
        yield lambda: None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); give another --output") from error
    note = folder / RUNNING
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another run is {doing} there{_who(note)}; wait for it, or give another --output"
            ) from error
        signed: list[Path] = []

        def sign() -> None:
            now = datetime.now().isoformat(" ", "seconds")
            write_json(note, {"host": socket.gethostname(), "process": os.getpid(), "since": now})
            signed.append(note)

        try:
            yield sign
        finally:
            for path in signed:
                with suppress(OSError):
                    path.unlink()
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Whether a process holds this folder: by `locked`, or by a lock that it was handed (`lock_to_hand_on`)."""
    import fcntl

    handle = _tried(folder, fcntl.LOCK_SH)  # those who look do not stand in each other's way
    if handle is not None:
        os.close(handle)
    return handle is None


def lock_to_hand_on(folder: Path) -> int | None:
    """A lock that lasts until the last process closes this file descriptor, so that a child can be handed it; None
    where another process holds it, or looks at it this moment."""
    import fcntl

    return _tried(folder, fcntl.LOCK_EX)


def _tried(folder: Path, kind: int) -> int | None:
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _who(note: Path) -> str:
    try:
        held = read_mapping(note)
    except UserError:
        return ""
    return f" (process {held.get('process')} on {held.get('host')}, since {held.get('since')})"
