"""Transitions in a stream of frames: hard cuts, dissolves, fades and flashes, in one pass and bounded memory.

A cascade, as Stable Video Diffusion's: PySceneDetect's content and adaptive detectors at the full rate find hard cuts;
histograms at 5 and 2 frames a second raise a suspicion of slow changes, which only stands if the frames between are mixtures
of the two ends (a pan's are not); blank frames give fades. A cut whose picture comes back at once was a flash.
Source: 2311.15127 appendix C; the rules are our own, calibrated by `python -m benchmarks.curation known`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from muybridge.curation.dissolves import LONGEST, SHORTEST, Look, dissolve_quality, even_pairs
from muybridge.curation.settings import CutSettings

THUMB = (24, 16)
#: Seconds of thumbnails that are kept, and how long a suspicion waits for what follows it.
MEMORY, PATIENCE = 7.0, 1.6


@dataclass
class Zone:
    """A transition: frames from `start` up to `end` belong to neither side."""

    start: float
    end: float
    detector: str


@dataclass
class _Cut:
    """A hard cut: the frame before it, and the first after it."""

    before: float
    time: float
    thumb_before: np.ndarray
    thumb_after: np.ndarray
    detector: str


@dataclass
class CutWatcher:
    """Fed every frame in order; `finish` gives the zones.

    Args:
        settings: thresholds.
    """

    settings: CutSettings = field(default_factory=CutSettings)
    zones: list[Zone] = field(default_factory=list)

    def __post_init__(self) -> None:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._timecode = FrameTimecode
        self._adaptive = AdaptiveDetector(adaptive_threshold=self.settings.adaptive, min_scene_len=1)
        self._looks: deque[Look] = deque()
        self._recent: deque[tuple[int, float]] = deque(maxlen=8)  # frame number -> time
        self._count = 0
        self._suspected: list[int] = []
        self._scores: deque[tuple[int, float]] = deque(maxlen=8)
        self._pending: list[_Cut] = []
        self._flashes: list[tuple[float, float]] = []
        self._slow: list[dict[str, Any]] = [
            {"gap": 1 / rate, "limit": limit, "time": -1e9, "histogram": None}
            for rate, limit in self.settings.slow_rates
        ]
        self._suspect: tuple[float, float] | None = None
        self._blank_since: float | None = None
        self._last_blank = 0.0
        self._blank_spans: list[tuple[float, float]] = []
        self._ramp_contrast: float | None = None

    # --- frame by frame ---------------------------------------------------------------------------------------------

    def feed(self, time: float, rgb: np.ndarray) -> None:
        """One small frame, uint8 [h, w, 3]."""
        import cv2

        bgr = np.ascontiguousarray(rgb[..., ::-1])
        thumb = cv2.resize(rgb, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        code = self._timecode(self._count, 30.0)
        adaptive = [int(c.frame_num) for c in self._adaptive.process_frame(code, bgr)]
        score = float(self._adaptive._frame_score or 0.0)  # the content detector's, which the adaptive one compares
        self._scores.append((self._count, score))
        if score >= self.settings.content:
            self._suspected.append(self._count)
        cuts = dict.fromkeys(adaptive, "adaptive") | dict.fromkeys(self._peaks(self._count - 2), "content")
        self._recent.append((self._count, time))
        self._looks.append(Look(time, thumb))
        for number, detector in cuts.items():
            self._add_cut(number, detector)
        self._watch_flashes(time, thumb)
        self._watch_blanks(time, thumb)
        self._watch_slow_changes(time, bgr)
        self._count += 1
        while self._looks and time - self._looks[0].time > MEMORY:
            self._looks.popleft()

    def _peaks(self, last: int) -> list[int]:
        """Suspected cuts up to frame `last` that stand out from the two frames on either side: where much moves, every frame differs much."""
        scores, out = dict(self._scores), []
        for number in [n for n in self._suspected if n <= last]:
            self._suspected.remove(number)
            beside = max(scores.get(number + k, 0.0) for k in (-2, -1, 1, 2))
            if scores.get(number, 0.0) >= self.settings.peak * beside:
                out.append(number)
        return out

    def _add_cut(self, number: int, detector: str) -> None:
        times = dict(self._recent)
        if number not in times or number - 1 not in times:
            return
        after = next((x for x in self._looks if x.time == times[number]), None)
        before = next((x for x in self._looks if x.time == times[number - 1]), None)
        if after is None or before is None or any(abs(c.time - after.time) < 1e-9 for c in self._pending):
            return
        self._pending.append(_Cut(before.time, after.time, before.thumb, after.thumb, detector))

    def _watch_flashes(self, time: float, thumb: np.ndarray) -> None:
        for cut in list(self._pending):
            if time > cut.time and time - cut.time <= self.settings.flash_seconds:
                jump = _distance(cut.thumb_after, cut.thumb_before)
                if _distance(thumb, cut.thumb_before) < max(5.0, 0.3 * jump):
                    self._flashes.append((cut.before, time))
                    self._pending.remove(cut)
            elif time - cut.time > 2 * self.settings.flash_seconds:
                self._commit_cut(cut)

    def _commit_cut(self, cut: _Cut) -> None:
        self._pending.remove(cut)
        if not any(start - 1e-6 <= cut.before and cut.time <= end + 0.1 for start, end in self._flashes):
            self.zones.append(Zone(cut.time, cut.time, cut.detector))

    def _watch_blanks(self, time: float, thumb: np.ndarray) -> None:
        level, contrast = float(thumb.mean()), float(thumb.std(axis=(0, 1)).mean())
        blank = contrast < self.settings.blank_contrast and (level < 24 or level > 231)
        if blank:
            self._blank_since = time if self._blank_since is None else self._blank_since
            self._last_blank = time
        elif self._blank_since is not None:
            # ramps: back to where the picture began to lose contrast, on to where it stops gaining it
            self._blank_spans.append((self._ramp_back(self._blank_since), time))
            self._blank_since = None
        if self._blank_spans and not blank:
            self._grow_ramp(time, contrast)

    def _ramp_back(self, since: float) -> float:
        looks = [x for x in self._looks if x.time <= since]
        place = len(looks) - 1
        contrast = [float(x.thumb.std(axis=(0, 1)).mean()) for x in looks]
        while place > 0 and contrast[place - 1] > contrast[place] + 0.15 and looks[-1].time - looks[place - 1].time < 3:
            place -= 1
        return looks[place].time

    def _grow_ramp(self, time: float, contrast: float) -> None:
        start, end = self._blank_spans[-1]
        if end == time:  # first frame after the blank
            self._ramp_contrast = contrast
            return
        if self._ramp_contrast is not None and contrast > self._ramp_contrast + 0.15 and time - start < 6:
            self._blank_spans[-1] = (start, time)
            self._ramp_contrast = contrast
        else:
            self._ramp_contrast = None

    # --- slow changes -----------------------------------------------------------------------------------------------

    def _watch_slow_changes(self, time: float, bgr: np.ndarray) -> None:
        due = [watch for watch in self._slow if time - watch["time"] >= watch["gap"] - 1e-6]
        if due:
            self._compare(due, time, _histogram(bgr))
        if self._suspect and time - self._suspect[1] > PATIENCE:
            self._judge(self._suspect)
            self._suspect = None
        elif self._suspect and self._suspect[1] - self._suspect[0] > MEMORY - 2 * PATIENCE:
            self._judge(self._suspect)  # a long restless stretch: judge it in parts
            self._suspect = None

    def _compare(self, due: list[dict[str, Any]], time: float, histogram: np.ndarray) -> None:
        """Suspect the time since a watch last looked if the colours have changed."""
        for watch in due:
            if watch["histogram"] is not None and _correlation(histogram, watch["histogram"]) < watch["limit"]:
                start, end = watch["time"], time
                if self._suspect is None:
                    self._suspect = (start, end)
                elif start <= self._suspect[1] + 0.6:
                    self._suspect = (min(start, self._suspect[0]), max(end, self._suspect[1]))
            watch["time"], watch["histogram"] = time, histogram

    def _judge(self, span: tuple[float, float]) -> None:
        """Find a dissolve in a suspected span: the pair of ends between which frames are mixtures, changing evenly."""
        looks = [x for x in self._looks if span[0] - PATIENCE <= x.time <= span[1] + PATIENCE]
        if len(looks) < 4:
            return
        hard = [c.time for c in self._pending] + [z.start for z in self.zones if z.detector in ("content", "adaptive")]
        hard = [t for t in hard if looks[0].time < t <= looks[-1].time]
        found: list[tuple[float, float, float]] = []
        looks = looks[:: max(1, len(looks) // 60)]
        promising = even_pairs(looks)
        for i, first in enumerate(looks):
            for j, last in enumerate(looks[i + 3 :], i + 3):
                length = last.time - first.time
                if length > LONGEST or any(first.time < cut <= last.time for cut in hard):
                    break
                if length < SHORTEST or not promising[i, j]:
                    continue
                quality = dissolve_quality(looks, first, last)
                if quality is not None:
                    found.append((quality, first.time, last.time))
        taken: list[Zone] = []
        for _, start, end in sorted(found, reverse=True):
            if all(end < z.start or z.end < start for z in taken):
                taken.append(Zone(start, end, "dissolve"))
        self.zones += taken

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> list[Zone]:
        """Everything that was found, in order, overlapping zones joined."""
        for number in self._peaks(self._count):
            self._add_cut(number, "content")
        if self._suspect:
            self._judge(self._suspect)
            self._suspect = None
        for cut in list(self._pending):
            self._commit_cut(cut)
        if self._blank_since is not None:
            self._blank_spans.append((self._ramp_back(self._blank_since), self._last_blank))
        for start, end in self._blank_spans:
            short = end - start <= self.settings.flash_seconds + 0.1
            if not (short and any(start <= b + 0.1 and end >= a - 0.1 for a, b in self._flashes)):
                self.zones.append(Zone(start, end, "fade"))
        return join(self.zones, 0.2)


def join(zones: list[Zone], gap: float) -> list[Zone]:
    """Zones in order; those that overlap or lie closer than `gap` seconds become one."""
    out: list[Zone] = []
    for zone in sorted(zones, key=lambda z: (z.start, z.end)):
        if out and zone.start <= out[-1].end + gap and not (zone.start == zone.end and out[-1].start == out[-1].end):
            names = dict.fromkeys([*out[-1].detector.split("+"), *zone.detector.split("+")])
            out[-1] = Zone(out[-1].start, max(out[-1].end, zone.end), "+".join(names))
        else:
            out.append(zone)
    return out


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def _histogram(bgr: np.ndarray) -> np.ndarray:
    """28 bins a colour: fine bins react to compression noise."""
    import cv2

    return np.concatenate([cv2.calcHist([bgr], [c], None, [28], [0, 256]).ravel() for c in range(3)])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return 1.0 if scale == 0 else float((a * b).sum()) / scale
