"""What every reader of a moving or still picture gives: what the file is, and its frames one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from muybridge.data.reading.rhythm import Rhythm, shown_at


class Frame(Protocol):
    """One frame, turned into pixels when it is looked at.

    Attributes:
        time: seconds from the first frame.
        key: can be decoded without any other.
    """

    @property
    def time(self) -> float: ...

    @property
    def key(self) -> bool: ...

    def rgb(self, short_side: int | None = None) -> np.ndarray:
        """uint8 [h, w, 3], upright, of square pixels, BT.709; shrunk so that the shorter side is `short_side`."""
        ...


@dataclass(frozen=True)
class About:
    """What a file is.

    Attributes:
        width, height: of upright frames of square pixels.
        rotation: degrees counter-clockwise that stored frames are turned by.
        rhythm: when its frames are shown.
        codec, pixel_format: names; "" of pictures.
        audio: there is sound.
        changes: what is done to its frames when they are read, in words: deinterlaced, tone-mapped, ...
        plain: stored frames can be taken as they are: nothing is turned, scaled, deinterlaced or tone-mapped.
    """

    width: int
    height: int
    rotation: int
    rhythm: Rhythm
    codec: str = ""
    pixel_format: str = ""
    audio: bool = False
    changes: tuple[str, ...] = ()
    plain: bool = True


class Reader:
    """An open file; a context manager.

    Frames are decoded as they are asked for, so memory does not grow with the file.
    """

    @property
    def about(self) -> About:
        """What the file is; the first call may read all of it, decoding little.

        Raises:
            FootageError: nothing in it can be decoded.
        """
        raise NotImplementedError

    @property
    def said_to_last(self) -> float:
        """Seconds that the file says it lasts; 0 if it does not say."""
        return 0.0

    def frames(self, start: float = 0.0, end: float = float("inf")) -> Iterator[Frame]:
        """Frames with times in [start, end), in order.

        Raises:
            FootageError: the file breaks off; what came before was good.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def shown(self, fps: float = 0.0) -> Iterator[Frame]:
        """The frame that is shown at each k / fps; at 0 every frame, or of a variable rate at the rhythm's own."""
        rhythm = self.about.rhythm
        if rhythm.keeps(fps):
            return self.frames()
        return shown_at(self.frames(), fps or rhythm.fps, rhythm.frames_at(fps), rhythm.start)

    def pictures(self, fps: float = 0.0) -> Iterator[np.ndarray]:
        """Those frames as uint8 [height, width, 3], all of one size; one that is shown several times is the same
        array."""
        before, picture = None, np.zeros(0, np.uint8)
        for frame in self.shown(fps):
            if frame is not before:
                before, picture = frame, self._sized(frame.rgb())
            yield picture

    def _sized(self, picture: np.ndarray) -> np.ndarray:
        """A frame of the first one's size: a stream may change it on its way."""
        from PIL import Image

        size = (self.about.width, self.about.height)
        if picture.shape[1::-1] == size:
            return picture
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))

    def told(self, fps: float = 0.0) -> list[str]:
        """What is done to the file when it is read at a rate, in words."""
        rhythm, said = self.about.rhythm, list(self.about.changes)
        if rhythm.variable:
            said.append(f"resampled from a variable rate to {fps or rhythm.fps:.6g} frames a second")
        return said
