"""Exact paths: where a group of things is, how large and how turned, at each frame of a motion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np

Array = np.ndarray
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class Path:
    """A group's way through a clip.

    Attributes:
        centres: float [F, 2], pixels.
        scales: float [F], 1 is the size it was given.
        angles: float [F], radians, clockwise on screen.
    """

    centres: Array
    scales: Array
    angles: Array


def times(frames: int) -> Array:
    """0..1 over a clip: motions cover the same share of the picture at any length."""
    return np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)


def between(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def path(
    rng: Random, motion: str, half: tuple[float, float], region: Region, frames: int, leaves: bool = False
) -> Path:
    """A path inside a region.

    Args:
        motion: a name of vocabulary.MOTIONS but "following".
        half: half width and half height of the group, pixels.
        region: left, top, right, bottom, pixels; the group stays inside unless it is larger or leaves.
        leaves: left and right end outside the region.
    """
    t, offsets = times(frames), np.zeros((frames, 2))
    scales, angles = np.ones(frames), np.zeros(frames)
    room = np.maximum([region[2] - region[0] - 2 * half[0], region[3] - region[1] - 2 * half[1]], 0.0)
    sign = -1.0 if motion in ("left", "up") else 1.0
    if motion in ("left", "right"):
        offsets[:, 0] = sign * t * (room[0] * between(rng, 0.65, 1.0))
    elif motion in ("up", "down"):
        offsets[:, 1] = sign * t * (room[1] * between(rng, 0.65, 1.0))
    elif motion in ("towards", "away"):
        small = between(rng, 0.3, 0.45)
        scales = small + (1 - small) * (t if motion == "towards" else 1 - t)
    elif motion == "spinning":
        angles = (1 if rng.random() < 0.5 else -1) * 2 * math.pi * between(rng, 0.7, 1.3) * t
    elif motion == "swinging":
        angles = between(rng, 0.35, 0.6) * np.sin(2 * math.pi * (between(rng, 1.0, 1.6) * t + rng.random()))
        offsets = np.stack([-np.sin(angles), np.cos(angles) - 1], 1) * half[1]  # it hangs by the middle of its top
    elif motion == "bouncing":
        offsets[:, 1] = -np.abs(np.sin(math.pi * (between(rng, 1.6, 2.6) * t + rng.random()))) * room[1] * between(
            rng, 0.55, 0.95)  # fmt: skip
    elif motion == "jumping":
        start, length = between(rng, 0.1, 0.3), between(rng, 0.55, 0.65)
        s = np.clip((t - start) / length, 0, 1)
        offsets[:, 1] = -4 * s * (1 - s) * room[1] * between(rng, 0.55, 0.95)
    elif motion == "orbiting":
        turn = 2 * math.pi * (between(rng, 0.8, 1.3) * t * (1 if rng.random() < 0.5 else -1) + rng.random())
        offsets = np.stack([np.cos(turn), np.sin(turn)], 1) * (min(room) / 2 * between(rng, 0.7, 1.0))
    return Path(_placed(rng, motion, offsets, half, region) + _exit(t, motion, half, room, leaves), scales, angles)


def _placed(rng: Random, motion: str, offsets: Array, half: tuple[float, float], region: Region) -> Array:
    """The offsets, put anywhere that keeps them in the region; a bounce and a jump start low."""
    low, high = offsets.min(0), offsets.max(0)
    first = np.array([region[0] + half[0], region[1] + half[1]]) - low
    last = np.array([region[2] - half[0], region[3] - half[1]]) - high
    middle = (first + last) / 2
    first, last = np.minimum(first, middle), np.maximum(last, middle)
    x = between(rng, first[0], last[0])
    y = last[1] if motion in ("bouncing", "jumping") else between(rng, first[1], last[1])
    return np.array([x, y]) + offsets


def _exit(t: Array, motion: str, half: tuple[float, float], room: Array, leaves: bool) -> Array:
    """What is added to a path so that it ends beyond the picture's edge."""
    out = np.zeros((len(t), 2))
    if leaves:
        out[:, 0] = (-1 if motion == "left" else 1) * t * (room[0] + 2 * half[0])
    return out
