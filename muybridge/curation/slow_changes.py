"""Dissolves and fades: transitions that take their time."""

from __future__ import annotations

from typing import Any

import numpy as np

from muybridge.curation.dissolves import LONGEST, SHORTEST, dissolve_quality, even_pairs
from muybridge.curation.hard_cuts import HardCuts
from muybridge.curation.settings import CutSettings
from muybridge.curation.zones import MEMORY, Looks, Zone

#: A blank frame is nearly black or nearly white, mean grey levels; between them it is a plain wall, fog or sky. Video
#: black is 16, and white 235, once compressed a little off.
BLACK, WHITE = 24.0, 231.0
#: A fade goes on while the contrast changes by more than this a frame, grey levels; grain alone changes it by less.
RAMP = 0.15
#: A fade's ramp on either side of the blank takes at most this long, seconds; the whole fade at most twice that.
LONGEST_RAMP = 3.0
#: A blank of a flash's length, and this, seconds, is a flash if one touches it: it ends on a frame, not on a time.
FRAMES_LATE = 0.1
#: How long a suspicion waits for what follows it, seconds: half of the longest dissolve, so that its end is seen.
PATIENCE = 1.6
#: Suspicions closer than this, seconds, are one: both rates look at least twice a second.
ONE_CHANGE = 0.6
#: Fewer looks than this hold no dissolve: two ends and two mixtures.
FEWEST_LOOKS = 4
#: A suspected span is judged on at most so many looks: pairs of them are quadratic.
MOST_LOOKS = 60
#: Bins a colour of the histograms: finer ones react to compression noise.
BINS = 28
#: Times that are the same but for rounding, seconds.
ROUNDING = 1e-6


class Fades:
    """Blank frames, and the ramps down to them and up again."""

    def __init__(self, settings: CutSettings, looks: Looks):
        self.settings, self.looks = settings, looks
        self._since: float | None = None
        self._last = 0.0
        self._spans: list[tuple[float, float]] = []
        self._contrast: float | None = None  # of the frame before, while a ramp up goes on

    def feed(self, time: float, thumb: np.ndarray) -> None:
        """One thumbnail, float32 [16, 24, 3]."""
        level, contrast = float(thumb.mean()), float(thumb.std(axis=(0, 1)).mean())
        blank = contrast < self.settings.blank_contrast and (level < BLACK or level > WHITE)
        if blank:
            self._since = time if self._since is None else self._since
            self._last = time
        elif self._since is not None:
            # ramps: back to where the picture began to lose contrast, on to where it stops gaining it
            self._spans.append((self._ramp_back(self._since), time))
            self._since = None
        if self._spans and not blank:
            self._grow(time, contrast)

    def finish(self, cuts: HardCuts) -> list[Zone]:
        """All fades; a short blank that a flash touches is a flash."""
        if self._since is not None:
            self._spans.append((self._ramp_back(self._since), self._last))
        longest_flash = self.settings.flash_seconds + FRAMES_LATE
        spans = [s for s in self._spans if s[1] - s[0] > longest_flash or not cuts.flashed(*s)]
        return [Zone(start, end, "fade") for start, end in spans]

    def _ramp_back(self, since: float) -> float:
        looks = [x for x in self.looks.kept if x.time <= since]
        place = len(looks) - 1
        contrast = [float(x.thumb.std(axis=(0, 1)).mean()) for x in looks]
        while (
            place > 0
            and contrast[place - 1] > contrast[place] + RAMP
            and looks[-1].time - looks[place - 1].time < LONGEST_RAMP
        ):
            place -= 1
        return looks[place].time

    def _grow(self, time: float, contrast: float) -> None:
        start, end = self._spans[-1]
        if end == time:  # first frame after the blank
            self._contrast = contrast
            return
        if self._contrast is not None and contrast > self._contrast + RAMP and time - start < 2 * LONGEST_RAMP:
            self._spans[-1] = (start, time)
            self._contrast = contrast
        else:
            self._contrast = None


class Dissolves:
    """Histograms a few times a second raise a suspicion; it stands if the frames between are mixtures of the ends."""

    def __init__(self, settings: CutSettings, looks: Looks, cuts: HardCuts):
        self.looks, self.cuts = looks, cuts
        self.zones: list[Zone] = []
        self._watches: list[dict[str, Any]] = [
            {"gap": 1 / rate, "limit": limit, "time": -1e9, "histogram": None} for rate, limit in settings.slow_rates
        ]
        self._suspect: tuple[float, float] | None = None

    def feed(self, time: float, bgr: np.ndarray) -> None:
        """One frame, uint8 [h, w, 3]."""
        due = [watch for watch in self._watches if time - watch["time"] >= watch["gap"] - ROUNDING]
        if due:
            self._compare(due, time, _histogram(bgr))
        if self._suspect is None:
            return
        start, end = self._suspect
        # a long restless stretch is judged in parts, while its looks are still kept
        if time - end > PATIENCE or end - start > MEMORY - 2 * PATIENCE:
            self.finish()

    def finish(self) -> None:
        """Judge what is suspected."""
        if self._suspect is not None:
            self.zones += self._judge(*self._suspect)
            self._suspect = None

    def _compare(self, due: list[dict[str, Any]], time: float, histogram: np.ndarray) -> None:
        """Suspect the time since a watch last looked if the colours have changed."""
        for watch in due:
            if watch["histogram"] is not None and _correlation(histogram, watch["histogram"]) < watch["limit"]:
                start, end = watch["time"], time
                if self._suspect is None:
                    self._suspect = (start, end)
                elif start <= self._suspect[1] + ONE_CHANGE:
                    self._suspect = (min(start, self._suspect[0]), max(end, self._suspect[1]))
            watch["time"], watch["histogram"] = time, histogram

    def _judge(self, start: float, end: float) -> list[Zone]:
        """The dissolves in a suspected span: pairs of ends between which frames are mixtures, changing evenly."""
        looks = self.looks.between(start - PATIENCE, end + PATIENCE)
        if len(looks) < FEWEST_LOOKS:
            return []
        hard = self.cuts.between(looks[0].time, looks[-1].time)
        found: list[tuple[float, float, float]] = []
        looks = looks[:: max(1, len(looks) // MOST_LOOKS)]
        promising, apart = even_pairs(looks), FEWEST_LOOKS - 1
        for i, first in enumerate(looks):
            for j, last in enumerate(looks[i + apart :], i + apart):
                length = last.time - first.time
                if length > LONGEST or any(first.time < cut <= last.time for cut in hard):
                    break
                if length < SHORTEST or not promising[i, j]:
                    continue
                quality = dissolve_quality(looks, first, last)
                if quality is not None:
                    found.append((quality, first.time, last.time))
        taken: list[Zone] = []
        for _, first_time, last_time in sorted(found, reverse=True):
            if all(last_time < z.start or z.end < first_time for z in taken):
                taken.append(Zone(first_time, last_time, "dissolve"))
        return taken


def _histogram(bgr: np.ndarray) -> np.ndarray:
    """[3 BINS], of the three colours."""
    import cv2

    return np.concatenate([cv2.calcHist([bgr], [c], None, [BINS], [0, 256]).ravel() for c in range(3)])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return 1.0 if scale == 0 else float((a * b).sum()) / scale
