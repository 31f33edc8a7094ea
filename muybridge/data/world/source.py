"""Drawing scenes: which things, where they start, how they move; a clip source of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from muybridge.data.clips import Clip
from muybridge.data.world.captions import BACKGROUNDS, FORMS, MOTIONS, PANS, SIZES, compose, describe, name_thing
from muybridge.data.world.scene import Background, Scene, Thing
from muybridge.data.world.shapes import COLOURS, ROUND, SHAPES
from muybridge.errors import UserError, nearest

Array = np.ndarray
Triple = tuple[str, str, str]

#: Radius as a share of the smaller side.
RADII: dict[str, tuple[float, float]] = {"small": (0.11, 0.14), "medium": (0.18, 0.23), "large": (0.28, 0.33)}
SPLITS = ("train", "validation", "held_out")
LIGHT = (215, 215, 220)


@dataclass(frozen=True)
class WorldConfig:
    """What the generator draws.

    Attributes:
        height, width, num_frames, fps: of every clip.
        num_clips: clips in the training split; the other splits are as large, of other scenes.
        split: "train", "validation" (same distribution, other scenes) or "held_out" (only held-out triples).
        colours, shapes, motions, sizes, backgrounds, pans: the vocabulary; repeat a name to draw it more often.
        spread: how far from the middle of the picture paths may lie: 1 is anywhere that keeps them inside, 0 the middle.
        two_things: share of scenes with two things (the second may pass before the first).
        plain_captions: share of captions in the plainest phrasing.
        held_out: share of all (colour, shape, motion) triples never shown in training.
    """

    height: int = 64
    width: int = 64
    num_frames: int = 16
    fps: float = 8.0
    num_clips: int = 20000
    seed: int = 0
    split: str = "train"
    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = tuple(SHAPES)
    motions: tuple[str, ...] = tuple(MOTIONS)
    sizes: tuple[str, ...] = ("small", "medium", "medium", "large")
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    pans: tuple[str, ...] = ("none", *PANS)
    spread: float = 1.0
    two_things: float = 0.25
    plain_captions: float = 0.5
    held_out: float = 0.1

    def __post_init__(self) -> None:
        vocabulary: dict[str, Collection[str]] = {
            "colours": COLOURS,
            "shapes": SHAPES,
            "motions": MOTIONS,
            "sizes": SIZES,
            "backgrounds": BACKGROUNDS,
            "pans": PANS,
        }
        for field, known in vocabulary.items():
            names = getattr(self, field)
            if not names:
                raise UserError(f"world.{field} is empty; known: {', '.join(known)}")
            for name in names:
                if name not in known:
                    raise UserError(f"world.{field}: unknown {name!r}; {nearest(name, known)}")
        if self.split not in SPLITS:
            raise UserError(f"world.split: unknown {self.split!r}; {nearest(self.split, SPLITS)}")
        if not 0 <= self.spread <= 1:
            raise UserError(f"world.spread must lie in 0 .. 1, got {self.spread}")
        if min(self.height, self.width) < 8 or self.num_frames < 1 or self.num_clips < 1:
            raise UserError(
                f"world: needs at least 8x8 pixels, 1 frame and 1 clip, "
                f"got {self.height}x{self.width}, {self.num_frames} and {self.num_clips}"
            )


def held_out_triples(config: WorldConfig) -> frozenset[Triple]:
    """The (colour, shape, motion) triples kept out of training: a fixed tenth, by hash, of the vocabulary's product."""
    names = (dict.fromkeys(config.colours), dict.fromkeys(config.shapes), dict.fromkeys(config.motions))
    triples = list(itertools.product(*names))
    ranked = sorted(triples, key=lambda t: hashlib.sha256(f"{config.seed}/{t}".encode()).digest())
    return frozenset(ranked[: round(config.held_out * len(triples))])


class WorldSource:
    """Clips of the generated world; clip i is the same on every machine."""

    def __init__(self, config: WorldConfig):
        self.config = config
        self.held_out = held_out_triples(config)
        if config.split == "held_out" and not self.held_out:
            raise UserError("world.split is held_out, but world.held_out keeps no triple out")

    def __len__(self) -> int:
        return self.config.num_clips

    def clip(self, index: int) -> Clip:
        scene, caption = self.scene(index)
        return Clip(scene.frames(), caption, self.config.fps)

    def still(self, index: int, frame: int) -> Clip:
        scene, caption = self.scene(index)
        return Clip(scene.frame(frame)[None], caption, self.config.fps)

    def captions(self) -> list[str]:
        return [self.scene(i)[1] for i in range(len(self))]

    def scene(self, index: int) -> tuple[Scene, str]:
        """The index'th scene and its caption; `Scene` gives flow, depth, masks and edges."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        config = self.config
        rng = np.random.default_rng([config.seed, SPLITS.index(config.split), index])
        count = 2 if rng.random() < config.two_things else 1
        pan = _pick(rng, config.pans)
        background = _pick(rng, config.backgrounds)
        if pan != "none" and background in ("dark", "light"):  # a pan over a plain backdrop cannot be seen
            textured = [b for b in config.backgrounds if b not in ("dark", "light")]
            background, pan = (_pick(rng, textured), pan) if textured else (background, "none")
        plain = rng.random() < config.plain_captions
        depths = rng.permutation(count) + 1.0
        things, parts = [], []
        for i in range(count):
            colour, shape, motion = self._triple(rng)
            size = _pick(rng, config.sizes)
            things.append(self._thing(rng, colour, shape, motion, size, depths[i]))
            form, variant = (0, 0) if plain else (int(rng.integers(len(FORMS))), int(rng.integers(4)))
            form = form if count == 1 else 0  # two clauses joined by "and" read well only in the plain form
            parts.append(describe(name_thing(colour, shape, size, variant), motion, form, variant))
        scene = Scene(
            config.height,
            config.width,
            config.num_frames,
            tuple(things),
            self._background(rng, background),
            self._camera(pan),
        )
        return scene, compose(parts, background, pan)

    def _triple(self, rng: np.random.Generator) -> Triple:
        config = self.config
        wanted_held_out = config.split == "held_out"
        if wanted_held_out:
            return sorted(self.held_out)[int(rng.integers(len(self.held_out)))]
        while True:
            triple = (_pick(rng, config.colours), _pick(rng, config.shapes), _pick(rng, config.motions))
            turns_unseen = triple[2] == "spinning" and triple[1] in ROUND and set(config.shapes) - ROUND
            if triple not in self.held_out and not turns_unseen:
                return triple

    def _thing(self, rng: np.random.Generator, colour: str, shape: str, motion: str, size: str, depth: float) -> Thing:
        config = self.config
        side = min(config.height, config.width)
        radius = side * rng.uniform(*RADII[size])
        radii = np.full(config.num_frames, radius)
        angles = np.zeros(config.num_frames)
        # time in 0..1 over the clip; motion covers the same share of the picture at any length and size
        time = np.linspace(0, 1, config.num_frames) if config.num_frames > 1 else np.zeros(1)
        offsets = np.zeros((config.num_frames, 2))
        room = np.array([config.width, config.height]) - 2 * radius
        axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}.get(motion, (0, 0))
        if sign:
            offsets[:, axis] = sign * time * room[axis] * rng.uniform(0.6, 0.95)
        elif motion == "bouncing":
            turns = rng.uniform(1.0, 1.8)
            offsets[:, 1] = (
                -np.abs(np.sin(np.pi * (time * turns + rng.uniform(0, 1)))) * room[1] * rng.uniform(0.5, 0.9)
            )
        elif motion == "orbiting":
            angle = 2 * np.pi * (rng.uniform(0, 1) + time * rng.choice([-1, 1]) * rng.uniform(0.7, 1.0))
            offsets[:] = np.stack([np.cos(angle), np.sin(angle)], 1) * room.min() * rng.uniform(0.3, 0.45)
        elif motion == "growing":
            radii = radius * (0.45 + time * rng.uniform(0.7, 0.85))
        elif motion == "spinning":
            angles = rng.choice([-1, 1]) * time * np.pi * rng.uniform(0.7, 1.1)
        # start anywhere that keeps the whole path in the picture, or nearer to its middle
        low, high = offsets.min(0), offsets.max(0)
        margin = radii.max()
        limit = np.array([config.width, config.height]) - 1 - margin - high
        first, last = np.minimum(margin - low, limit), np.maximum(limit, margin - low)
        middle = (first + last) / 2
        start = middle + config.spread * (rng.uniform(first, last) - middle)
        jittered = np.clip(np.array(COLOURS[colour]) + rng.uniform(-8, 8, 3), 0, 255)
        rgb = (int(jittered[0]), int(jittered[1]), int(jittered[2]))
        return Thing(shape, rgb, start + offsets, radii, angles, float(depth))

    def _background(self, rng: np.random.Generator, name: str) -> Background:
        if name == "dark":
            return Background()
        if name == "light":
            return Background(colour=LIGHT)
        base = rng.uniform(20, 60, 3)
        second = np.clip(base + rng.uniform(25, 60, 3), 0, 255)
        period = min(self.config.height, self.config.width) * rng.uniform(0.2, 0.35)
        return Background(name, tuple(base.astype(int).tolist()), tuple(second.astype(int).tolist()), float(period))

    def _camera(self, pan: str) -> Array:
        time = np.linspace(0, 1, self.config.num_frames) if self.config.num_frames > 1 else np.zeros(1)
        x, y = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(pan, (0, 0))
        reach = 0.25 * min(self.config.height, self.config.width)
        return np.outer(time, [x, y]) * reach


def _pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    return names[int(rng.integers(len(names)))]
