"""The two kinds of rows: one for every file that was found, one for every clip that was cut from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

CLIP_ID_DIGITS = 24
SCHEMA = 1


@dataclass
class Source:
    """One file, kept or not.

    Attributes:
        source_id: SHA-256 of its bytes (of its path when it cannot be read).
        path: relative to the folder of footage.
        twins: other paths with the same bytes.
        probe: fields of footage.Probe, and `variable_rate`, `frames`; empty when there is no video in it.
        zones: transitions, [start, end, detector] in seconds.
        clips: rows of Clip.
        problem: {"kind", "message"} when the file, or its rest from some point on, could not be used.
        stages: stage -> version and settings, as a hash.
    """

    source_id: str
    path: str
    twins: list[str] = field(default_factory=list)
    probe: dict[str, Any] = field(default_factory=dict)
    zones: list[list[Any]] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)
    problem: dict[str, str] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)


@dataclass
class Clip:
    """One clip, kept or not.

    Attributes:
        clip_id: of the source's content, the span and the settings: the same wherever files lie.
        source_id, path: where it comes from.
        start, end: seconds in the source.
        frames, fps, width, height: of the clip.
        file: of the clip, relative to the output; "" while there is none.
        copied: its packets were copied, not encoded again.
        scores: name -> number; a missing score is None, never NaN.
        fingerprint: hex of perceptual hashes, one of each looked-at picture.
        captions: {"name", "text", "model", "share"}; what training may draw from.
        keep, reasons: the decision, and every reason against it.
        problems: {"stage", "kind", "message"}.
        stages: stage -> version and settings, as a hash.
    """

    clip_id: str
    source_id: str
    path: str
    start: float
    end: float
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    file: str = ""
    copied: bool = False
    scores: dict[str, float | None] = field(default_factory=dict)
    fingerprint: list[str] = field(default_factory=list)
    captions: list[dict[str, Any]] = field(default_factory=list)
    keep: bool = True
    reasons: list[str] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)


def clip_identity(source_id: str, start: float, end: float, settings: str) -> str:
    """CLIP_ID_DIGITS hex digits of what the clip is."""
    text = f"{source_id}:{round(start * 1e6)}:{round(end * 1e6)}:{settings}"
    return hashlib.sha256(text.encode()).hexdigest()[:CLIP_ID_DIGITS]


def settings_hash(*parts: Any) -> str:
    """16 hex digits that change with any setting."""
    return hashlib.sha256(json.dumps([SCHEMA, *parts], sort_keys=True, default=str).encode()).hexdigest()[:16]


def plain(row: Source | Clip) -> dict[str, Any]:
    return asdict(row)
