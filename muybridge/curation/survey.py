"""One decode of a file: its transitions, its shots, and small pictures of it at 2 frames a second for all later scores."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from muybridge.curation.ahead import ahead
from muybridge.curation.cuts import CutSettings, CutWatcher, Zone
from muybridge.curation.footage import FootageError, decoding_threads, describe, frames_of, open_footage
from muybridge.curation.records import Clip, Source, clip_identity, plain, settings_hash
from muybridge.data.video_io import uneven
from muybridge.errors import UserError, nearest

if TYPE_CHECKING:
    from muybridge.curation.transnet import TransNetWatcher

#: Frames are looked for cuts at this short side, pixels.
CUT_SIDE = 72
DETECTORS = ("cascade", "transnet")
VERSION = 2


@dataclass(frozen=True)
class SurveySettings:
    """How footage is looked at and cut.

    Attributes:
        detector: "cascade" (cuts.py) or "transnet" (TransNetV2 from its package).
        cuts: thresholds of the cascade; the margin holds for both.
        min_seconds, max_seconds: shots shorter are dropped (with a line), longer ones are divided (divide).
        look_fps, look_side: the small pictures kept for the scores: frames a second, short side in pixels.
    """

    detector: str = "cascade"
    cuts: CutSettings = field(default_factory=CutSettings)
    min_seconds: float = 2.0
    max_seconds: float = 10.0
    look_fps: float = 2.0
    look_side: int = 180

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise UserError(f"detector: unknown {self.detector!r}; {nearest(self.detector, DETECTORS)}")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise UserError(f"clips need 0 < min_seconds <= max_seconds, got {self.min_seconds} and {self.max_seconds}")
        if not 0 < self.look_fps <= 30 or self.look_side < 32:
            raise UserError(
                f"look_fps must be in (0, 30] and look_side at least 32, got {self.look_fps}, {self.look_side}"
            )

    def version(self) -> str:
        return settings_hash("survey", VERSION, asdict(self))


def survey(path: Path, name: str, source_id: str, settings: SurveySettings) -> tuple[dict, list[bytes]]:
    """A file's record and its small pictures (JPEG, in order; their times are in the record's probe).

    A file that breaks off is used as far as it goes, with a line that says so.

    Raises:
        FootageError: nothing in it can be used.
    """
    source = Source(source_id, name)
    watcher = watcher_of(settings)
    times: list[float] = []
    keys: list[float] = []
    looked: list[float] = []
    pictures: list[bytes] = []
    with open_footage(path) as container:
        probe = describe(container)
    with open_footage(path) as container:
        try:
            looks = _looks(container, settings)
            # a worker of a cluster keeps to its core
            for time, key, small, picture in looks if decoding_threads() == 1 else ahead(looks, 64):
                times.append(time)
                if key:
                    keys.append(time)
                watcher.feed(time, small)
                if picture:
                    looked.append(time)
                    pictures.append(picture)
        except FootageError as error:
            source.problem = {"kind": error.kind, "message": error.message}
    if not times:
        raise FootageError("no frame", source.problem.get("message", "no frame could be decoded"))
    zones = watcher.finish()
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 1 / (probe.fps or 25)
    end = times[-1] + gap
    if not source.problem and end < 0.95 * probe.duration - 0.1:
        message = f"says it lasts {probe.duration:.2f} s, but its frames end at {end:.2f} s"
        source.problem = {"kind": "breaks off", "message": message}
    source.probe = {
        **asdict(probe),
        "duration": end,
        "frames": len(times),
        "variable_rate": uneven(times),
        "keys": keys,
        "looked": looked,
    }
    source.zones = [[z.start, z.end, z.detector] for z in zones]
    source.clips = [plain(c) for c in _clips(source, zones, times, keys, end, settings)]
    source.stages = {"survey": settings.version()}
    return plain(source), pictures


def _looks(container: Any, settings: SurveySettings) -> Iterator[tuple[float, bool, np.ndarray, bytes]]:
    """Of every frame its time, whether it is a key frame, and a small picture for the cuts; of some a larger one, JPEG, for the scores."""
    due = 0.0
    for frame in frames_of(container):
        picture = b""
        if frame.time >= due - 1e-6:
            picture = _jpeg(frame.rgb(settings.look_side))
            due = (np.floor(frame.time * settings.look_fps + 1e-6) + 1) / settings.look_fps
        yield frame.time, frame.key, frame.rgb(CUT_SIDE), picture


def watcher_of(settings: SurveySettings) -> CutWatcher | TransNetWatcher:
    """What finds the transitions: fed every frame in order, it gives them at the end."""
    if settings.detector == "cascade":
        return CutWatcher(settings.cuts)
    from muybridge.curation.transnet import TransNetWatcher

    return TransNetWatcher()


def _jpeg(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=90)
    return out.getvalue()


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


def _clips(
    source: Source, zones: list[Zone], times: list[float], keys: list[float], end: float, settings: SurveySettings
) -> list[Clip]:
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
