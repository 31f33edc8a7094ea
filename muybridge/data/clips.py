"""What a data source is: a numbered set of captioned clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from muybridge.errors import UserError

UInt8 = np.ndarray


@dataclass(frozen=True)
class Clip:
    """A captioned clip.

    Attributes:
        frames: uint8 [F, H, W, 3], RGB.
        caption: what it shows.
        fps: frames a second.
    """

    frames: UInt8
    caption: str
    fps: float = 8.0


class ClipSource(Protocol):
    """A finite, ordered set of clips of one size. Reading a clip never depends on what was read before."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> Clip:
        """The index'th clip, all of its frames."""
        ...

    def still(self, index: int, frame: int) -> Clip:
        """One frame of it, as a clip of one frame."""
        ...

    def captions(self) -> list[str]:
        """Every clip's caption, in order, without decoding anything."""
        ...


class FirstClips:
    """The first clips of a source."""

    def __init__(self, source: ClipSource, count: int):
        self.source, self.count = source, min(count, len(source))

    def __len__(self) -> int:
        return self.count

    def clip(self, index: int) -> Clip:
        return self.source.clip(index)

    def still(self, index: int, frame: int) -> Clip:
        return self.source.still(index, frame)

    def captions(self) -> list[str]:
        return [self.source.clip(i).caption for i in range(self.count)]


class MixedClips:
    """Several sources, one after another; all clips have the same frames and size."""

    def __init__(self, sources: Sequence[ClipSource]):
        self.sources = sources
        self.loops = all(getattr(s, "loops", False) for s in sources)
        self._ends = np.cumsum([len(s) for s in sources])
        shapes = {s.clip(0).frames.shape for s in sources}
        if len(shapes) > 1:
            raise UserError(f"data: the sources of a mix differ in frames or size: {sorted(shapes)}")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, index: int) -> tuple[ClipSource, int]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which], index - (int(self._ends[which - 1]) if which else 0)

    def clip(self, index: int) -> Clip:
        source, place = self._find(index)
        return source.clip(place)

    def still(self, index: int, frame: int) -> Clip:
        source, place = self._find(index)
        return source.still(place, frame)

    def captions(self) -> list[str]:
        return [caption for source in self.sources for caption in source.captions()]
