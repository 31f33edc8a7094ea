"""One decode of a file, in stretches: its transitions, its shots, and small pictures of it at 2 frames a second for all
later scores."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from muybridge.curation.ahead import ahead
from muybridge.curation.cuts import CutWatcher
from muybridge.curation.footage import (
    FootageError,
    Probe,
    describe,
    frames_between,
    open_footage,
    working_threads,
)
from muybridge.curation.records import Source, plain
from muybridge.curation.settings import SurveySettings
from muybridge.curation.shots import clips_of
from muybridge.curation.zones import Zone, join
from muybridge.data.reading.reader import Frame
from muybridge.data.reading.rhythm import uneven

if TYPE_CHECKING:
    from muybridge.curation.transnet import TransNetWatcher

#: Frames are looked for cuts at this short side, pixels.
CUT_SIDE = 72
#: How far each stretch looks beyond its ends, seconds: longer than any transition.
BEYOND = 6.0


@dataclass
class Watched:
    """What was seen in a stretch of a file.

    Attributes:
        times, keys: seconds, of its frames and of the key frames among them.
        looked, pictures: times of the small pictures, and these, JPEG.
        zones: transitions, [start, end, detector], that reach into it.
        problem: {"kind", "message"} if the file breaks off there.
    """

    times: list[float] = field(default_factory=list)
    keys: list[float] = field(default_factory=list)
    looked: list[float] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    zones: list[tuple[float, float, str]] = field(default_factory=list)
    problem: dict[str, str] = field(default_factory=dict)


def stretches_of(probe: Probe, seconds: float) -> list[tuple[float, float]]:
    """Spans that a file is watched in; the last has no end. They depend on the file alone, never on who watches."""
    count = max(1, round(probe.duration / seconds))
    return [(i * seconds, (i + 1) * seconds if i + 1 < count else float("inf")) for i in range(count)]


def probe_file(path: Path) -> Probe:
    """What a file says of itself.

    Raises:
        FootageError: it cannot be used.
    """
    with open_footage(path) as reader:
        return describe(reader)


def watch(path: Path, start: float, end: float, settings: SurveySettings) -> Watched:
    """Decode a stretch, and a little on both sides for transitions across its ends.

    Raises:
        FootageError: the file cannot be opened.
    """
    watcher, seen, reached = watcher_of(settings), Watched(), start
    looks = _looks(start, end, frames_between(path, max(0.0, start - BEYOND), end + BEYOND), settings)
    try:
        # a process that keeps to one core gains nothing by a second thread
        for time, key, small, picture in looks if working_threads() == 1 else ahead(looks, 64):
            watcher.feed(time, small)
            reached = time
            if not start <= time < end:
                continue
            seen.times.append(time)
            if key:
                seen.keys.append(time)
            if picture:
                seen.looked.append(time)
                seen.pictures.append(picture)
    except FootageError as error:
        if reached < end:  # else it is the next stretch's
            seen.problem = {"kind": error.kind, "message": error.message}
    zones = watcher.finish() if seen.times else []
    seen.zones = [(z.start, z.end, z.detector) for z in zones if z.end >= start and z.start < end]
    return seen


def survey(
    name: str, source_id: str, probe: Probe, stretches: list[Watched], settings: SurveySettings
) -> tuple[dict[str, Any], list[bytes]]:
    """A file's record and its small pictures (JPEG, in order; their times are in the record's probe), from all of its
    stretches.

    A file that breaks off is used as far as it goes, with a line that says so.

    Raises:
        FootageError: nothing in it can be used.
    """
    source, whole = Source(source_id, name), Watched()
    found: set[tuple[float, float, str]] = set()
    for seen in stretches:
        whole.times += seen.times
        whole.keys += seen.keys
        whole.looked += seen.looked
        whole.pictures += seen.pictures
        found |= set(seen.zones)
        if seen.problem:
            source.problem = seen.problem
            break
    times = whole.times
    if not times:
        kind = source.problem.get("kind", "breaks off")
        told = source.problem.get("message", "no frame could be decoded")
        raise FootageError("no frame" if kind == "breaks off" else kind, told)
    zones = join([Zone(*zone) for zone in found])
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
        "keys": whole.keys,
        "looked": whole.looked,
    }
    source.zones = [[z.start, z.end, z.detector] for z in zones]
    source.clips = [plain(c) for c in clips_of(source, zones, times, whole.keys, end, settings)]
    source.stages = {"survey": settings.version()}
    return plain(source), whole.pictures


def _looks(
    start: float, end: float, frames: Iterator[Frame], settings: SurveySettings
) -> Iterator[tuple[float, bool, np.ndarray, bytes]]:
    """Of every frame its time, whether it is a key frame, and a small picture for the cuts; of some of the stretch a
    larger one, JPEG, for the scores."""
    due = start
    for frame in frames:
        picture = b""
        if due - 1e-6 <= frame.time < end:
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
