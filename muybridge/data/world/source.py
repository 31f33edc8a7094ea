"""Drawing scenes: which things, where they start, how they move; a clip source of them."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from muybridge.configuration import Settings, setting
from muybridge.data.clips import Clip
from muybridge.data.sources import MOST_CLIPS, check_clip, frames, side
from muybridge.data.world.captions import BACKGROUNDS, FORMS, MOTIONS, PANS, SIZES, compose, describe, name_thing
from muybridge.data.world.scene import Background, Scene, Thing
from muybridge.data.world.shapes import COLOURS, ROUND, SHAPES
from muybridge.errors import UserError

Array = np.ndarray
Triple = tuple[str, str, str]

#: Radius as a share of the smaller side.
RADII: dict[str, tuple[float, float]] = {"small": (0.11, 0.14), "medium": (0.18, 0.23), "large": (0.28, 0.33)}
SPLITS = ("train", "validation", "held_out")
LIGHT = (215, 215, 220)


@dataclass(frozen=True)
class WorldConfig(Settings):
    """What the generator draws. Of the vocabulary, a name that is repeated is drawn more often."""

    where: ClassVar[str] = "data"

    height: int = side(64, low=8)
    width: int = side(64, low=8)
    num_frames: int = frames(16)
    fps: float = setting(8.0, "frames a second", above=0, high=240)
    num_clips: int = setting(
        20000, "clips in the training split; the other splits are as large, of other scenes", low=1, high=MOST_CLIPS
    )
    seed: int = setting(0, "of the scenes", low=0)
    split: str = setting(
        "train", "validation is the same distribution, other scenes; held_out only held-out triples", choices=SPLITS
    )
    colours: tuple[str, ...] = setting(tuple(COLOURS), "of things", choices=tuple(COLOURS), fewest=1)
    shapes: tuple[str, ...] = setting(tuple(SHAPES), "of things", choices=tuple(SHAPES), fewest=1)
    motions: tuple[str, ...] = setting(tuple(MOTIONS), "of things", choices=tuple(MOTIONS), fewest=1)
    sizes: tuple[str, ...] = setting(
        ("small", "medium", "medium", "large"), "of things", choices=tuple(SIZES), fewest=1
    )
    backgrounds: tuple[str, ...] = setting(tuple(BACKGROUNDS), "behind them", choices=tuple(BACKGROUNDS), fewest=1)
    pans: tuple[str, ...] = setting(("none", *PANS), "which way the camera goes", choices=tuple(PANS), fewest=1)
    spread: float = setting(
        1.0, "how far from the picture's middle paths may lie: 1 is anywhere that keeps them inside", low=0, high=1
    )
    two_things: float = setting(
        0.25, "share of scenes with two things (the second may pass before the first)", low=0, high=1
    )
    plain_captions: float = setting(0.5, "share of captions in the plainest phrasing", low=0, high=1)
    held_out: float = setting(
        0.1, "share of all (colour, shape, motion) triples never shown in training", low=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.num_frames, self.height, self.width)


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
            raise UserError("data.split is held_out, but data.held_out keeps no triple out")
        product = itertools.product(config.colours, config.shapes, config.motions)
        if config.split != "held_out" and not any(self._trained(triple) for triple in product):
            raise UserError(
                "data.held_out leaves no (colour, shape, motion) to train on; lower it or widen the vocabulary"
            )

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

    def names(self) -> list[str]:
        """What captions call colours, shapes, sizes, motions and backgrounds, each once."""
        config = self.config
        acts = {phrase for motion in config.motions for phrase in MOTIONS[motion]}
        return sorted({*config.colours, *config.shapes, *config.sizes, *config.backgrounds} | acts)

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
            if self._trained(triple):
                return triple

    def _trained(self, triple: Triple) -> bool:
        """Whether training shows it: not held out, and no turn that cannot be seen."""
        turns_unseen = triple[2] == "spinning" and triple[1] in ROUND and set(self.config.shapes) - ROUND
        return triple not in self.held_out and not turns_unseen

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
