"""Transitions as spans of time, and the small pictures that every detector of them looks back at."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from muybridge.curation.dissolves import Look

#: Zones closer than this, seconds, are one transition: a dissolve's end and the fade behind it, or a cut that two
#: detectors date a few frames apart. It is well below the shortest shot that anyone keeps.
TOUCHING = 0.2
#: Seconds of thumbnails that are kept: the longest dissolve with the time on both sides that its judgement waits for.
MEMORY = 7.0


@dataclass
class Zone:
    """A transition: frames from `start` up to `end` belong to neither side."""

    start: float
    end: float
    detector: str


def join(zones: list[Zone], gap: float = TOUCHING) -> list[Zone]:
    """Zones in order; those that overlap or lie closer than `gap` seconds become one."""
    out: list[Zone] = []
    for zone in sorted(zones, key=lambda z: (z.start, z.end)):
        if out and zone.start <= out[-1].end + gap and not (zone.start == zone.end and out[-1].start == out[-1].end):
            names = dict.fromkeys([*out[-1].detector.split("+"), *zone.detector.split("+")])
            out[-1] = Zone(out[-1].start, max(out[-1].end, zone.end), "+".join(names))
        else:
            out.append(zone)
    return out


class Looks:
    """The last seconds of thumbnails, oldest first."""

    def __init__(self) -> None:
        self.kept: deque[Look] = deque()

    def add(self, look: Look) -> None:
        self.kept.append(look)

    def forget(self, now: float) -> None:
        """Drop what is older than MEMORY."""
        while self.kept and now - self.kept[0].time > MEMORY:
            self.kept.popleft()

    def at(self, time: float) -> Look | None:
        """The look of exactly this time; None where it is gone."""
        return next((look for look in self.kept if look.time == time), None)

    def between(self, start: float, end: float) -> list[Look]:
        return [look for look in self.kept if start <= look.time <= end]
