"""From transitions to shots, and from shots to clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from muybridge.curation.records import Clip, Source, clip_identity
from muybridge.curation.zones import Zone

if TYPE_CHECKING:
    from muybridge.curation.settings import SurveySettings


def shots_of(zones: list[Zone], end: float, margin: float) -> list[tuple[float, float]]:
    """Spans between transitions, a margin kept from slow ones; a hard cut needs none before it."""
    spans, start = [], 0.0
    for zone in zones:
        slow = zone.end > zone.start
        spans.append((start, zone.start - (margin if slow else 0.0)))
        start = zone.end + (margin if slow else 0.0)
    spans.append((start, end))
    return [(a, b) for a, b in spans if b > a]


def divide(start: float, stop: float, keys: list[float], least: float, most: float) -> list[tuple[float, float]]:
    """A shot in parts of `least` to `most` seconds: on key frames, where nothing has to be encoded again, if that can be; else evenly."""
    edges = [start]
    while stop - edges[-1] > most + 1e-6:
        reached = [k for k in keys if edges[-1] + least <= k <= min(edges[-1] + most, stop - least)]
        if not reached:
            count = int(np.ceil((stop - start) / most - 1e-6))
            edges = [float(t) for t in np.linspace(start, stop, count + 1)[:-1]]
            break
        edges.append(reached[-1])
    return list(zip(edges, [*edges[1:], stop], strict=True))


def clips_of(
    source: Source, zones: list[Zone], times: list[float], keys: list[float], end: float, settings: SurveySettings
) -> list[Clip]:
    """The clips between a file's transitions, those that are too short among them, with the reason."""
    instants = np.asarray(times)
    probe, out = source.probe, []
    for start, stop in shots_of(zones, end, settings.cuts.margin):
        for a, b in divide(start, stop, keys, settings.min_seconds, settings.max_seconds):
            frames = int(((instants >= a - 1e-6) & (instants < b - 1e-6)).sum())
            if not frames:
                continue
            identity = clip_identity(source.source_id, float(a), float(b), settings.version())
            clip = Clip(identity, source.source_id, source.path, float(a), float(b), frames)
            clip.fps, clip.width, clip.height = frames / float(b - a), probe["width"], probe["height"]
            if b - a < settings.min_seconds - 1e-6:
                clip.keep = False
                clip.reasons = [f"too short: {b - a:.2f} s, at least {settings.min_seconds:g} s wanted"]
            out.append(clip)
    return out
