"""Hard cuts, and the flashes that look like them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from muybridge.curation.settings import CutSettings
from muybridge.curation.zones import Looks, Zone

#: Frames on either side that a suspected cut must stand out from: where much moves, every frame differs much.
BESIDE = 2
#: Frames whose number and score are remembered: the adaptive detector names a cut two frames late, and twice that on
#: both sides is compared.
REMEMBERED = 8
#: PySceneDetect wants a frame rate with its frame numbers; only the numbers come back.
NOMINAL_FPS = 30.0
#: A picture is back after a flash if it differs from the one before by less than this share of the flash's jump,
BACK_SHARE = 0.3
#: or by less than this, mean grey levels: what grain and small motion make of the same picture.
BACK_LEVELS = 5.0
#: A cut is decided this many times the longest flash after it: the picture may come back until then.
DECIDED = 2
#: A cut that begins inside a flash's span and ends this much after it, seconds, is the flash's own end, dated two or
#: three frames late.
LATE = 0.1
#: Times of frames that are the same but for rounding, seconds; and of cuts that two detectors found in one frame.
ROUNDING, SAME = 1e-6, 1e-9


@dataclass
class Cut:
    """A hard cut: the frame before it, and the first after it."""

    before: float
    time: float
    thumb_before: np.ndarray
    thumb_after: np.ndarray
    detector: str


class HardCuts:
    """PySceneDetect's adaptive detector, and its content score where that has a peak; without flashes.

    Attributes:
        pending: cuts that may still turn out to be flashes.
        zones: cuts that stand.
        flashes: spans, seconds.
    """

    def __init__(self, settings: CutSettings, looks: Looks):
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self.settings, self.looks = settings, looks
        self.pending: list[Cut] = []
        self.zones: list[Zone] = []
        self.flashes: list[tuple[float, float]] = []
        self._timecode = FrameTimecode
        self._adaptive = AdaptiveDetector(adaptive_threshold=settings.adaptive, min_scene_len=1)
        self._count = 0
        self._times: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)  # frame number -> time
        self._scores: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
        self._suspected: list[int] = []

    def feed(self, time: float, bgr: np.ndarray, thumb: np.ndarray) -> None:
        """One frame, uint8 [h, w, 3] in the detector's order of colours; its look is in `looks` already."""
        code = self._timecode(self._count, NOMINAL_FPS)
        adaptive = [int(c.frame_num) for c in self._adaptive.process_frame(code, bgr)]
        score = float(self._adaptive._frame_score or 0.0)  # the content detector's, which the adaptive one compares
        self._scores.append((self._count, score))
        if score >= self.settings.content:
            self._suspected.append(self._count)
        cuts = dict.fromkeys(adaptive, "adaptive") | dict.fromkeys(self._peaks(self._count - BESIDE), "content")
        self._times.append((self._count, time))
        for number, detector in cuts.items():
            self._add(number, detector)
        self._watch_flashes(time, thumb)
        self._count += 1

    def finish(self) -> None:
        """Decide what waits for frames that will not come."""
        for number in self._peaks(self._count):
            self._add(number, "content")

    def commit(self) -> None:
        """No picture comes back any more: pending cuts stand."""
        for cut in list(self.pending):
            self._commit(cut)

    def between(self, start: float, end: float) -> list[float]:
        """Times of the cuts known so far after `start` and up to `end`."""
        known = [c.time for c in self.pending] + [z.start for z in self.zones]
        return [t for t in known if start < t <= end]

    def flashed(self, start: float, end: float) -> bool:
        """Whether a flash touches this span."""
        return any(start <= b + LATE and end >= a - LATE for a, b in self.flashes)

    def _peaks(self, last: int) -> list[int]:
        """Suspected cuts up to frame `last` that stand out from the frames beside them."""
        scores, out = dict(self._scores), []
        around = [k for k in range(-BESIDE, BESIDE + 1) if k]
        for number in [n for n in self._suspected if n <= last]:
            self._suspected.remove(number)
            beside = max(scores.get(number + k, 0.0) for k in around)
            if scores.get(number, 0.0) >= self.settings.peak * beside:
                out.append(number)
        return out

    def _add(self, number: int, detector: str) -> None:
        times = dict(self._times)
        if number not in times or number - 1 not in times:
            return
        after, before = self.looks.at(times[number]), self.looks.at(times[number - 1])
        if after is None or before is None or any(abs(c.time - after.time) < SAME for c in self.pending):
            return
        self.pending.append(Cut(before.time, after.time, before.thumb, after.thumb, detector))

    def _watch_flashes(self, time: float, thumb: np.ndarray) -> None:
        for cut in list(self.pending):
            if time > cut.time and time - cut.time <= self.settings.flash_seconds:
                jump = _distance(cut.thumb_after, cut.thumb_before)
                if _distance(thumb, cut.thumb_before) < max(BACK_LEVELS, BACK_SHARE * jump):
                    self.flashes.append((cut.before, time))
                    self.pending.remove(cut)
            elif time - cut.time > DECIDED * self.settings.flash_seconds:
                self._commit(cut)

    def _commit(self, cut: Cut) -> None:
        self.pending.remove(cut)
        if not any(start - ROUNDING <= cut.before and cut.time <= end + LATE for start, end in self.flashes):
            self.zones.append(Zone(cut.time, cut.time, cut.detector))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())
