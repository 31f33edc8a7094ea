"""A file opened by the reader for its kind, and as many of its frames as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from muybridge.data.reading.formats import ANIMATIONS, PICTURES, FootageError, told
from muybridge.data.reading.reader import About, Frame, Reader
from muybridge.data.reading.rhythm import Rhythm


def open_reader(path: Path) -> Reader:
    """A reader of a video, an animation or a picture, by its ending.

    Raises:
        FootageError: it cannot be used; `kind` and `message` say why.
    """
    try:
        if path.stat().st_size == 0:
            raise FootageError("empty", "the file is empty")
    except OSError as error:
        raise FootageError("unreadable", f"cannot be opened: {told(error)}") from error
    if path.suffix.lower() in ANIMATIONS | PICTURES:
        from muybridge.data.reading.pictures import PictureReader

        return PictureReader(path)
    from muybridge.data.reading.decoding import FilmReader

    return FilmReader(path)


class FolderReader(Reader):
    """Pictures, each a frame, at an even rate. One that cannot be read is left out, and the one before it held.

    Args:
        paths: in order.
        fps: frames a second.
        tell: of those that cannot be read.

    Raises:
        FootageError: none of them can be read, or they differ in size.
    """

    def __init__(self, paths: Sequence[Path], fps: float, tell: Callable[[str], None] = lambda line: None):
        self.paths, self.fps, self._tell = paths, fps, tell
        self._unreadable: dict[Path, FootageError] = {}

    @cached_property
    def about(self) -> About:  # type: ignore[override]
        seen: dict[tuple[int, int], About] = {}
        for path in self.paths:
            try:
                with open_reader(path) as one:
                    seen.setdefault((one.about.height, one.about.width), one.about)
            except FootageError as error:
                self._cannot(path, error)
        if not seen:
            path, first_error = next(iter(self._unreadable.items()))
            raise FootageError(first_error.kind, f"{path.name}: {first_error.message}") from first_error
        if len(seen) > 1:
            raise FootageError("sizes", f"its frames differ in size (height, width): {sorted(seen)}")
        first = next(iter(seen.values()))
        count = len(self.paths)
        rhythm = Rhythm(self.fps, False, 0.0, count / self.fps, count)
        return About(first.width, first.height, 0, rhythm, first.codec, first.pixel_format, False, first.changes, False)

    def frames(self, start: float = 0.0, end: float = float("inf")) -> Iterator[Frame]:
        from muybridge.data.reading.pictures import PictureFrame

        shown = None
        for i, path in enumerate(self.paths):
            if start - 1e-6 <= i / self.fps < end - 1e-6:
                try:
                    if path not in self._unreadable:
                        with open_reader(path) as one:
                            shown = next(iter(one.frames())).rgb()
                except FootageError as error:
                    self._cannot(path, error)
                if shown is not None:
                    yield PictureFrame(i / self.fps, shown)
        if shown is None and self._unreadable:
            raise FootageError("damaged", "none of its pictures can be read")

    def _cannot(self, path: Path, error: FootageError) -> None:
        if path not in self._unreadable:
            self._unreadable[path] = error
            self._tell(f"{path.name} cannot be read ({error.message}): left out, the picture before it is held")


def frames_of_all(reader: Reader, most: int | None = None) -> np.ndarray:
    """The frames at their own rate, uint8 [F, H, W, 3], at most so many, in memory once."""
    about = reader.about
    count = min(about.rhythm.frames_at(), most or 10**9)
    out = np.empty((max(count, 1), about.height, about.width, 3), np.uint8)
    filled = 0
    for picture in reader.pictures():
        if filled == len(out):
            if most and filled >= most:
                break
            out = np.concatenate([out, np.empty_like(out[: max(1, len(out) // 8)])])
        out[filled] = picture
        filled += 1
        if filled == most:
            break
    return out[:filled]
