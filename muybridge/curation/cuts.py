"""Transitions in a stream of frames: hard cuts, dissolves, fades and flashes, in one pass and bounded memory.

A cascade, as Stable Video Diffusion's: PySceneDetect's content and adaptive detectors at the full rate find hard cuts;
histograms at 5 and 2 frames a second raise a suspicion of slow changes, which only stands if the frames between are
mixtures of the two ends (a pan's are not); blank frames give fades. A cut whose picture comes back at once was a flash.
Source: 2311.15127 appendix C; the rules are our own, calibrated by `python -m benchmarks.curation known`.
"""

from __future__ import annotations

import numpy as np

from muybridge.curation.dissolves import Look
from muybridge.curation.hard_cuts import HardCuts
from muybridge.curation.settings import CutSettings
from muybridge.curation.slow_changes import Dissolves, Fades
from muybridge.curation.zones import Looks, Zone, join

__all__ = ["CutWatcher", "Zone", "join"]

#: Thumbnails, pixels (width, height): 4 x 6 places of 4 x 4 (dissolves.Look.coarse).
THUMB = (24, 16)


class CutWatcher:
    """Fed every frame in order; `finish` gives the zones.

    Args:
        settings: thresholds.
    """

    def __init__(self, settings: CutSettings | None = None):
        settings = settings or CutSettings()
        self.looks = Looks()
        self.cuts = HardCuts(settings, self.looks)
        self.fades = Fades(settings, self.looks)
        self.dissolves = Dissolves(settings, self.looks, self.cuts)

    def feed(self, time: float, rgb: np.ndarray) -> None:
        """One small frame, uint8 [h, w, 3]."""
        import cv2

        bgr = np.ascontiguousarray(rgb[..., ::-1])
        thumb = cv2.resize(rgb, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        self.looks.add(Look(time, thumb))
        self.cuts.feed(time, bgr, thumb)
        self.fades.feed(time, thumb)
        self.dissolves.feed(time, bgr)
        self.looks.forget(time)

    def finish(self) -> list[Zone]:
        """Everything that was found, in order, overlapping zones joined."""
        self.cuts.finish()
        self.dissolves.finish()
        self.cuts.commit()
        return join(self.cuts.zones + self.dissolves.zones + self.fades.finish(self.cuts))
