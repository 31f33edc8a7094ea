"""Films with known truth: generated shots joined by cuts, dissolves and fades, with pans, flashes and still ones among
them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from muybridge.data.video_io import write_video
from muybridge.data.world import WorldConfig, WorldSource

FPS = 24.0
SIZE = (96, 160)
TRANSITIONS = ("cut", "dissolve", "fade", "white fade")


@dataclass
class KnownFilm:
    """Frames and what is true of them.

    Attributes:
        frames: uint8 [F, H, W, 3].
        transitions: (kind, first frame of the change, first frame after it).
        flashes: first frames of flashes, which are no transitions.
        shots: (first, end) of each shot, in frames, without its transitions.
    """

    frames: np.ndarray
    transitions: list[tuple[str, int, int]] = field(default_factory=list)
    flashes: list[int] = field(default_factory=list)
    shots: list[tuple[int, int]] = field(default_factory=list)


def shot(rng: np.random.Generator, frames: int, still: bool = False) -> np.ndarray:
    """One shot of the generated world; most have textured backgrounds, many a pan."""
    motions = ("still",) if still else ("left", "right", "up", "down", "orbiting", "bouncing")
    config = WorldConfig(
        height=SIZE[0],
        width=SIZE[1],
        num_frames=frames,
        num_clips=1,
        seed=int(rng.integers(2**31)),
        motions=motions,
        pans=("none",) if still else ("none", "left", "right", "up", "down"),
        backgrounds=("dark", "light", "stripes", "checks", "dots", "waves"),
        held_out=0.0,
    )
    made = WorldSource(config).clip(0).frames.astype(np.float32)
    # shots of one film differ in their light
    light = rng.uniform(0.6, 1.2, 3)
    grain = rng.normal(0, 2.0, made.shape[:3])[..., None]
    return np.clip(made * light + rng.uniform(0, 40) + grain, 0, 255)


def film(seed: int, shots: int = 6, flash: bool = True) -> KnownFilm:
    """A film of several shots."""
    rng = np.random.default_rng(seed)
    parts = [shot(rng, int(rng.integers(48, 84)), still=rng.random() < 0.15) for _ in range(shots)]
    if flash:
        which = int(rng.integers(shots))
        at = int(rng.integers(15, len(parts[which]) - 15))
    out: list[np.ndarray] = []
    known = KnownFilm(np.zeros(0))
    start = 0
    for i, part in enumerate(parts):
        begin = sum(map(len, out))
        if flash and i == which:
            part[at : at + int(rng.integers(1, 4))] = 235
            known.flashes.append(begin + at)
        if i == len(parts) - 1:
            out.append(part)
            known.shots.append((start, begin + len(part)))
            break
        kind = str(rng.choice(TRANSITIONS, p=[0.45, 0.3, 0.15, 0.1]))
        length = int(rng.integers(8, 30))
        if kind == "cut":
            out.append(part)
            known.transitions.append((kind, begin + len(part), begin + len(part)))
            known.shots.append((start, begin + len(part)))
            start = begin + len(part)
        elif kind == "dissolve":
            following = parts[i + 1]
            weight = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
            mixed = (1 - weight) * part[-length:] + weight * following[:length]
            out += [part[:-length], mixed]
            parts[i + 1] = following[length:]
            first = begin + len(part) - length
            known.transitions.append((kind, first, first + length))
            known.shots.append((start, first))
            start = first + length
            if flash and i + 1 == which:
                at = max(8, at - length)
        else:
            to = 0.0 if kind == "fade" else 255.0
            weight = np.linspace(1, 0, length)[:, None, None, None]
            down, up = part[-length:] * weight + to * (1 - weight), parts[i + 1][:length]
            parts[i + 1] = np.concatenate([up * weight[::-1] + to * (1 - weight[::-1]), parts[i + 1][length:]])
            out += [part[:-length], down]
            first, end = begin + len(part) - length, begin + len(part) + length
            known.transitions.append((kind, first, end))
            known.shots.append((start, first))
            start = end
            if flash and i + 1 == which:
                at = max(at, length + 8)
    known.frames = np.concatenate(out).clip(0, 255).astype(np.uint8)
    return known


def write_film(path: Path, known: KnownFilm) -> Path:
    return write_video(known.frames, path, FPS)
