"""The things of a scene, read from the emoji stores: which there are, and their pictures cut to what is opaque."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from muybridge.data.emoji import default_store
from muybridge.data.packs import PackedSource
from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.names import COMMON, Noun, noun_of
from muybridge.data.sprites.vocabulary import COLOURS
from muybridge.errors import UserError

Array = np.ndarray
#: Transparent texels around a picture, so that its rim is drawn smoothly.
PAD = 2
#: Bytes of pictures that are kept: 512 loops of 16 frames of 64 x 64 with alpha.
KEPT_BYTES = 2**27
#: Share of the people that are passed over when things are drawn: most names are people in three variants.
PEOPLE_PASSED = 0.6


@dataclass(frozen=True)
class Cutout:
    """A thing that can be shown.

    Attributes:
        kind: "stills" or "animations": the store it lies in.
        entry: its place there.
        label: its Unicode name; `noun` is what people call it.
        style, origin: its look, and the package it came from.
        tags: emojibase's tags.
        loop: it moves in itself.
        category: emojibase's "group/subgroup", "" if unknown.
    """

    kind: str
    entry: int
    label: str
    noun: Noun
    style: str
    origin: str
    tags: tuple[str, ...]
    loop: bool
    category: str


@dataclass(frozen=True)
class Picture:
    """A cut-out's pixels.

    Attributes:
        frames: uint8 [K, h, w, 4], RGBA with `PAD` transparent texels on each side; K is 1 for stills.
        extents: half width and half height of what is opaque, in units of the larger of them.
    """

    frames: Array
    extents: tuple[float, float]


class Cutouts:
    """The things that a config lets in.

    Raises:
        UserError: a store is not there, or holds none of what is asked for.
    """

    def __init__(self, config: SpritesConfig):
        self.config = config
        kinds = [k for k, needed in (("stills", config.loops < 1), ("animations", config.loops > 0)) if needed]
        self._stores = {k: self._open(k, config) for k in kinds}
        #: (style, kind) -> its things
        self.by_style: dict[tuple[str, str], list[Cutout]] = {}
        for kind, store in self._stores.items():
            for i, entry in enumerate(store.entries):
                noun = noun_of(entry.caption, entry.category)
                if noun is None or not _wanted(config, entry.caption, noun):
                    continue
                loop = entry.shape[0] > 1
                cutout = Cutout(
                    kind, i, entry.caption, noun, entry.style, entry.origin, entry.tags, loop, entry.category
                )
                self.by_style.setdefault((entry.style, kind), []).append(cutout)
        self.all = {k: [c for (_, kind), found in self.by_style.items() if kind == k for c in found] for k in kinds}
        empty = [k for k, found in self.all.items() if not found]
        if empty:
            raise UserError(f"data: no thing among the {empty[0]} has one of these names, styles and origins")
        self.concepts = sorted({c.noun.concept for found in self.all.values() for c in found})
        largest = max((prod(e.shape) for s in self._stores.values() for e in s.entries[:1]), default=1)
        self.picture = lru_cache(maxsize=max(8, KEPT_BYTES // largest))(self._picture)

    def _open(self, kind: str, config: SpritesConfig) -> PackedSource:
        given = config.stills if kind == "stills" else config.animations
        store = Path(given).expanduser() if given else default_store(kind)
        return PackedSource(store, config.names_split, 1, origins=config.origins, styles=config.styles)

    def draw(self, rng: Random, countable: bool = False) -> Cutout:
        """Any thing; with `countable` one that can be counted.

        Raises:
            UserError: there is none that can be counted.
        """
        kind = "animations" if rng.random() < self.config.loops else "stills"
        for _ in range(1000):
            cutout = self.all[kind][int(rng.random() * len(self.all[kind]))]
            if cutout.category.startswith("1/") and rng.random() < PEOPLE_PASSED:
                continue
            if cutout.noun.countable or not countable:
                return cutout
        raise UserError("data.counted: none of these things can be counted; set it to 0")

    def draw_several(self, rng: Random, count: int) -> list[Cutout]:
        """Things of different concepts in one style.

        Raises:
            UserError: no style has as many.
        """
        for _ in range(1000):
            found = [self.draw(rng)]
            for _ in range(20 * count):
                kind = "animations" if rng.random() < self.config.loops else "stills"
                alike = self.by_style.get((found[0].style, kind), [])
                other = alike[int(rng.random() * len(alike))] if alike else found[0]
                if other.noun.concept not in {c.noun.concept for c in found}:
                    found.append(other)
                if len(found) == count:
                    return found
        raise UserError(f"data: no style has {count} different things; widen names, or set related and several to 0")

    def _picture(self, cutout: Cutout) -> Picture:
        raw = self._stores[cutout.kind].raw(cutout.entry)
        if raw.shape[-1] != 4:
            raise UserError(f"{cutout.label!r} of {cutout.origin} has no alpha: sprites needs stores of cut-outs")
        seen = raw[..., 3].max(0) >= 32
        if not seen.any():
            raise UserError(f"{cutout.label!r} of {cutout.origin} is empty; build the store again")
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        part = raw[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = part.shape[1:3]
        frames = np.pad(part, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
        longer = max(height, width)
        return Picture(frames, (width / longer, height / longer))


def _wanted(config: SpritesConfig, caption: str, noun: Noun) -> bool:
    """Whether a config lets a thing in."""
    if config.names:
        return bool({caption, noun.concept} & set(config.names))
    return config.things == "all" or noun.concept in COMMON


def recolour(frames: Array, colour: str) -> Array:
    """Tint pixels, keeping light and shade: their median brightness becomes the colour itself.

    Args:
        frames: uint8 [K, h, w, 4].
        colour: a name of COLOURS.
    """
    light = frames[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    seen = frames[..., 3] > 127
    middle = float(np.clip(np.median(light[seen]) if seen.any() else 128, 40, 230))
    target = np.array(COLOURS[colour], np.float32)
    shade = np.arange(256, dtype=np.float32)[:, None]
    dark = target * (0.25 + 0.75 * np.minimum(shade / middle, 1))
    bright = (255 - target) * 0.65 * np.clip((shade - middle) / (255 - middle), 0, 1)
    table = np.clip(dark + bright + 0.5, 0, 255).astype(np.uint8)
    out = frames.copy()
    out[..., :3] = table[light.astype(np.uint8)]
    return out


def levels_of(frame: Array) -> list[Image.Image]:
    """A picture with premultiplied alpha and its halvings, for drawing it smaller.

    Args:
        frame: uint8 [h, w, 4].
    """
    levels = [Image.fromarray(frame, "RGBA").convert("RGBa")]
    while min(levels[-1].size) > 8:
        levels.append(levels[-1].reduce(2))
    return levels
