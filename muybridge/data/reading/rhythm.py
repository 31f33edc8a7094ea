"""When frames are shown: the rate of a video from the times of its frames, and what is shown at each moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

#: Frame times that differ from an even rhythm by more than this share of a frame are a variable rate.
UNEVEN = 0.5
#: A header's rate that is this near to the measured one, as a share, is the exact one.
NEAR = 2e-3
#: A variable rate is resampled to at most this many times as many frames as are stored.
MOST_REPEATED = 4
#: Frames a second of what has no rate.
DEFAULT_RATE = 8.0


class Timed(Protocol):
    """Something with a time."""

    @property
    def time(self) -> float: ...


F = TypeVar("F", bound=Timed)


@dataclass(frozen=True)
class Rhythm:
    """When a video's frames are shown.

    Attributes:
        fps: frames a second; of a variable rate, what it is resampled to.
        variable: frames stand for different times.
        start: seconds of the first frame on the file's clock.
        duration: seconds from the first frame to the end of the last.
        count: frames that are stored.
    """

    fps: float
    variable: bool
    start: float
    duration: float
    count: int

    def frames_at(self, fps: float = 0.0) -> int:
        """How many frames are shown at a rate; at 0 all that are stored, or of a variable rate those of `self.fps`."""
        if self.count == 1 or (not fps and not self.variable):
            return self.count
        return max(1, round(self.duration * (fps or self.fps)))

    def keeps(self, fps: float) -> bool:
        """Whether every stored frame is taken once at a rate (0: its own)."""
        return not self.variable and (not fps or abs(fps - self.fps) <= 1e-3 or self.count == 1)


def uneven(times: Sequence[float] | np.ndarray, tick: float = 0.0, last: float | None = None) -> bool:
    """Whether frames come at a variable rate.

    Args:
        times: seconds, rising.
        tick: seconds that the file's clock counts in: gaps may differ by two of them.
        last: how long the last one is shown, if the file says so.
    """
    gaps = np.diff(times)
    if last is not None:
        gaps = np.append(gaps, last)
    if len(gaps) < 2:
        return False
    median = float(np.median(gaps))
    return bool(np.abs(gaps - median).max() > max(UNEVEN * median, 1.5 * tick))


def rhythm_of(
    times: Sequence[float] | np.ndarray, header: float = 0.0, tick: float = 0.0, last: float | None = None
) -> Rhythm:
    """The rhythm of frames.

    Args:
        times: seconds at which each is shown, in any order; may be empty.
        header: frames a second that the file says it has; 0 if it does not. It counts where times say the same, and
            where there are none.
        tick: seconds that the file's clock counts in.
        last: seconds that the last frame is shown, if the file says so.
    """
    sorted_times = np.unique(np.asarray(times, np.float64))
    count = len(sorted_times)
    if count < 2:
        fps = header or (1 / last if last else DEFAULT_RATE)
        return Rhythm(fps, False, float(sorted_times[0]) if count else 0.0, count / fps, count)
    gaps = np.diff(sorted_times)
    spread = float(sorted_times[-1] - sorted_times[0])
    start = float(sorted_times[0])
    if not uneven(sorted_times, tick, last):
        fps = (count - 1) / spread if last is None else count / (spread + last)
        if header and abs(header - fps) <= max(NEAR * fps, 2 * tick * fps / spread):
            fps = header
        return Rhythm(fps, False, start, count / fps, count)
    duration = spread + (float(np.median(gaps)) if last is None else last)
    lasting = float(np.quantile(gaps, 0.25, method="lower"))
    fps = min(1 / lasting, MOST_REPEATED * count / duration)
    return Rhythm(fps, True, start, duration, count)


def shown_at(frames: Iterable[F], rate: float, count: int, start: float = 0.0) -> Iterator[F]:
    """Of frames in order the one that is shown at start + k / rate for every k below `count`."""
    held, k = None, 0
    for frame in frames:
        while held is not None and k < count and start + k / rate + 1e-6 < frame.time:
            yield held
            k += 1
        if k >= count:
            return
        held = frame
    while held is not None and k < count:
        yield held
        k += 1
