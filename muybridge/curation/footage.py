"""Raw video files: what they are, their upright frames with their own times, and clips cut out of them.

Frames come from the one reader of all commands (`data/reading/`). Times are seconds from the file's first frame, by the
container's own clock, never frame number over rate: footage may have a variable frame rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muybridge.data.captions import BESIDE, TABLES
from muybridge.data.reading.formats import VIDEOS, FootageError
from muybridge.data.reading.opening import open_reader
from muybridge.data.reading.reader import Frame, Reader

THREADS_VARIABLE = "MUYBRIDGE_DECODING_THREADS"
#: Seconds after the time that was sought within which the first frame must come, or seeking has failed.
LATE = 1.0


@dataclass(frozen=True)
class Probe:
    """What a file says of itself.

    Attributes:
        width, height: of upright frames of square pixels.
        rotation: degrees that the file asks its frames to be turned by.
        fps: frames a second, by their times.
        duration: seconds, as the container says, or as its frames do if it does not.
        codec, pixel_format: names.
        audio: there is sound.
        changes: what is done to its frames when they are read.
        plain: its frames can be taken as they are stored.
    """

    width: int
    height: int
    rotation: int
    fps: float
    duration: float
    codec: str
    pixel_format: str
    audio: bool
    changes: tuple[str, ...] = ()
    plain: bool = True


def find_footage(folder: Path) -> list[Path]:
    """Every file under a folder that may be footage, sorted; hidden files and folders are passed over, and texts
    beside footage.

    Files with other endings are listed too: they get their line in the report as not being video.
    """
    return sorted(p for p in folder.rglob("*") if p.is_file() and _counts(p, folder) and _is_text(p, folder))


def find_strange(folder: Path) -> list[tuple[Path, str, str]]:
    """What under a folder can be no footage though it is no folder either: (path, kind, why)."""
    out = []
    for path in sorted(p for p in folder.rglob("*") if _counts(p, folder)):
        if path.is_symlink() and path.is_dir():
            out.append((path, "link", "a link to a folder; these are not followed: give that folder itself"))
        elif path.is_symlink() and not path.exists():
            out.append((path, "link", "a link that leads nowhere, or in a circle"))
        elif path.is_file() and not _is_text(path, folder):
            out.append((path, "name", "its name is not UTF-8: rename it"))
        elif not path.is_dir() and not path.is_file():
            out.append((path, "no file", "no ordinary file, but a pipe, a socket or a device"))
    return out


def printable(name: str) -> str:
    """A file's name in letters alone: bytes that are not UTF-8 as their codes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_text(path: Path, folder: Path) -> bool:
    name = str(path.relative_to(folder))
    return printable(name) == name


def _counts(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() not in (*BESIDE, *TABLES)


def working_threads() -> int:
    """Threads that looking at a file may use here, 0 for as many as there are cores: a worker of a cluster keeps to the
    one it was given (cage.py). Decoding takes one everywhere, so that damaged files give the same on every machine."""
    return int(os.environ.get(THREADS_VARIABLE, "0"))


def open_footage(path: Path) -> Reader:
    """An open reader.

    Raises:
        FootageError: empty, not media, or without video.
    """
    if path.suffix.lower() not in VIDEOS:
        raise FootageError("not video", f"{path.suffix or 'no ending'} is not a video file's ending")
    return open_reader(path)


def describe(reader: Reader) -> Probe:
    """What an open file says of itself; a few frames are decoded.

    Raises:
        FootageError: none can be.
    """
    about = reader.about
    return Probe(
        about.width, about.height, about.rotation, about.rhythm.fps, reader.said_to_last or about.rhythm.duration,
        about.codec, about.pixel_format, about.audio, about.changes, about.plain,
    )  # fmt: skip


def frames_of(reader: Reader, start: float = 0.0, end: float = float("inf")) -> Iterator[Frame]:
    """Decode the frames with times in [start, end).

    Raises:
        FootageError: the stream breaks off; what came before was good.
    """
    return reader.frames(start, end)


def frames_between(path: Path, start: float, end: float) -> Iterator[Frame]:
    """Frames with times in [start, end); of a file that cannot be sought by reading it from its beginning.

    Raises:
        FootageError: the file cannot be opened, or breaks off.
    """
    if start > 0:
        with open_footage(path) as reader:
            frames = frames_of(reader, start, end)
            try:
                first = next(frames, None)
            except FootageError:
                first = None
            if first is not None and first.time <= start + LATE:
                yield first
                yield from frames
                return
    with open_footage(path) as reader:
        yield from (f for f in frames_of(reader, 0.0, end) if f.time >= start - 1e-6)
