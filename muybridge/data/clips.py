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


def buckets_of(source: ClipSource) -> list[np.ndarray]:
    """The clips' numbers by shape, for sources whose clips differ in it (they list `shapes`); all of them for
    others. A clip that an epoch shows several times (`deck`) is there as often."""
    shapes = list(getattr(source, "shapes", []))
    if not shapes:
        return [np.arange(len(source))]
    deck = np.asarray(getattr(source, "deck", np.arange(len(source))))
    return [deck[[shapes[i] == shape for i in deck]] for shape in sorted(set(shapes), reverse=True)]


class FirstClips:
    """The first clips of a source, of each shape in turn; with `largest`, those with the most pixels (a probe of what
    training needs)."""

    def __init__(self, source: ClipSource, count: int, largest: bool = False):
        shapes = list(getattr(source, "shapes", []))
        order = list(range(len(source)))
        if largest and shapes:
            order.sort(key=lambda i: -int(np.prod(shapes[i])))
        elif shapes:
            turn = {i: k for bucket in buckets_of(source) for k, i in enumerate(dict.fromkeys(bucket.tolist()))}
            order.sort(key=lambda i: turn[i])
        self.source, self.order = source, order[:count]
        self.loops = bool(getattr(source, "loops", False))
        self.shapes = [shapes[i] for i in self.order] if shapes else []

    def __len__(self) -> int:
        return len(self.order)

    def clip(self, index: int) -> Clip:
        return self.source.clip(self.order[index])

    def still(self, index: int, frame: int) -> Clip:
        return self.source.still(self.order[index], frame)

    def captions(self) -> list[str]:
        return [self.clip(i).caption for i in range(len(self))]


class MixedClips:
    """Several sources, one after another. Where they differ in frames or size, `shapes` lists every clip's.

    Args:
        times: how often an epoch shows each source's clips; once by default.
    """

    def __init__(self, sources: Sequence[ClipSource], times: Sequence[int] | None = None):
        self.sources = sources
        times = times or [1] * len(sources)
        if len(times) != len(sources) or any(not isinstance(n, int) or n < 1 for n in times):
            raise UserError(f"data: `times` of a mix's sources must be whole numbers from 1, got {list(times)}")
        self.loops = all(getattr(s, "loops", False) for s in sources)
        self._ends = np.cumsum([len(s) for s in sources])
        places = np.split(np.arange(int(self._ends[-1])), self._ends[:-1])
        #: the clips of an epoch, by number; training shuffles these
        self.deck = np.concatenate([np.tile(p, n) for p, n in zip(places, times, strict=True)])
        shapes = [list(getattr(s, "shapes", [])) or [s.clip(0).frames.shape[:3]] * len(s) for s in sources]
        self.shapes = [shape for rows in shapes for shape in rows] if len({s for r in shapes for s in r}) > 1 else []

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

    def names(self) -> list[str]:
        return sorted({name for source in self.sources for name in names_of(source)})


def names_of(source: ClipSource) -> list[str]:
    """What captions call things, of sources whose captions are made of names (they list `names`); none of others."""
    listed = getattr(source, "names", None)
    return list(listed()) if listed else []
