"""What a scene shows, before anything is drawn: things, motions, background, relation, counts; and held-out sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeVar

from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.cutouts import Cutout, Cutouts
from muybridge.data.sprites.vocabulary import PLACES, SHARED_MOTIONS
from muybridge.errors import UserError

T = TypeVar("T")
Combination = tuple[str, ...]
#: Plans drawn before a vocabulary counts as one that leaves nothing to show.
TRIES = 20_000
#: Motions that need no room, so that a large thing can make them; in these a thing's place is said.
IN_PLACE = ("still", "spinning", "swinging")
#: Sizes as they are drawn: at 64 pixels a small thing is hardly told from another.
SIZES_IN_PLACE = ("small", "medium", "medium", "large", "large")
SIZES_ON_THE_WAY = ("small", "medium", "medium", "medium")


@dataclass(frozen=True)
class Part:
    """Things of one kind in a scene.

    Attributes:
        cutout: what is shown.
        motion: a name of vocabulary.MOTIONS.
        count: how many, 1 or more; they move alike.
        colour: a name of vocabulary.COLOURS, "" for its own.
        size: a name of vocabulary.SIZES.
        place: a name of vocabulary.PLACES, "" where it goes from place to place.
    """

    cutout: Cutout
    motion: str = "still"
    count: int = 1
    colour: str = ""
    size: str = "medium"
    place: str = ""


@dataclass(frozen=True)
class Plan:
    """A scene in words.

    Attributes:
        layout: "plain", "one", "counted", "related", "several", "following" or "orbiting" (around a second thing).
        parts: the kinds of things; of a relation the first and the second.
        background: a name of vocabulary.BACKGROUNDS, and the colours it is in.
        relation: "" or how the first part stands to the second: a name of vocabulary.RELATIONS, "following" or
            "orbiting".
        side: "left" or "right": where the first is, if it is beside the second; or where those that follow go.
        leaves: it goes out of the picture.
    """

    layout: str
    parts: tuple[Part, ...]
    background: str = "white"
    background_colours: tuple[str, ...] = ()
    relation: str = ""
    side: str = ""
    leaves: bool = False


def pick(rng: Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def combinations(plan: Plan, moves: bool = True) -> frozenset[Combination]:
    """What a scene puts together: ("motion", thing, motion), ("background", thing, background), ("relation", thing,
    relation, thing).

    Standing still and a white background are none. Mirrored relations are the same: below is above, in front of is
    behind,
    and beside has no order.

    Args:
        moves: clips; in pictures motions are not seen.
    """
    found: set[Combination] = set()
    for part in plan.parts:
        concept = part.cutout.noun.concept
        if moves and part.motion != "still":
            found.add(("motion", concept, part.motion))
        if plan.background != "white":
            found.add(("background", concept, plan.background))
    if plan.relation:
        first, second = (p.cutout.noun.concept for p in plan.parts[:2])
        mirrored = {"below": "above", "in front of": "behind"}
        if plan.relation in mirrored or (plan.relation == "beside" and second < first):
            first, second = second, first
        found.add(("relation", first, mirrored.get(plan.relation, plan.relation), second))
    return frozenset(found)


@lru_cache(maxsize=100_000)
def is_held_out(combination: Combination, share: float) -> bool:
    """Whether a combination is kept out of training: by its hash alone, whatever the seed and the vocabulary."""
    value = int.from_bytes(hashlib.sha256("/".join(combination).encode()).digest()[:8], "big") / 2**64
    return value < share


class Planner:
    """Draws plans; each is a function of the generator's state alone."""

    def __init__(self, config: SpritesConfig, cutouts: Cutouts):
        self.config, self.cutouts = config, cutouts
        pictures = config.num_frames == 1
        self.motions = ("still",) if pictures else tuple(m for m in config.motions if m != "following") or ("still",)
        self.shared = tuple(m for m in self.motions if m in SHARED_MOTIONS or m == "still") or ("still",)
        self.moves = not pictures

    def draw(self, rng: Random) -> Plan:
        """A plan of the split: in training and validation without held-out combinations, in held_out with one.

        Raises:
            UserError: the vocabulary has no such plan.
        """
        config = self.config
        for _ in range(TRIES):
            plan = self._draw(rng)
            kept = any(is_held_out(c, config.held_out) for c in combinations(plan, self.moves))
            if kept == (config.split == "held_out"):
                return plan
        raise UserError(
            f"data: these names, motions, backgrounds and relations leave nothing for the split {config.split} "
            f"(held_out: {config.held_out:g}); widen them"
        )

    def _draw(self, rng: Random) -> Plan:
        config = self.config
        if config.split != "held_out" and rng.random() < config.plain:
            return Plan("plain", (Part(self.cutouts.draw(rng), size="large", place="centre"),))
        value = rng.random()
        background, colours = self._background(rng)
        if value < config.counted:
            return self._counted(rng, background, colours)
        if value < config.counted + config.related:
            return self._related(rng, background, colours)
        if value < config.counted + config.related + config.several:
            return self._several(rng, background, colours)
        motion = pick(rng, self.motions)
        size = pick(rng, SIZES_IN_PLACE if motion in IN_PLACE else SIZES_ON_THE_WAY)
        places = tuple(PLACES) if size == "small" else ("centre", "centre", "left", "right")
        place = pick(rng, places if size != "large" else ("centre",)) if motion in IN_PLACE else ""
        leaves = motion in ("left", "right") and rng.random() < 0.25
        part = self._part(rng, self.cutouts.draw(rng), motion, size=size, place=place)
        return Plan("one", (part,), background, colours, leaves=leaves)

    def _part(
        self, rng: Random, cutout: Cutout, motion: str, count: int = 1, size: str = "medium", place: str = ""
    ) -> Part:
        recolour = not cutout.noun.coloured and rng.random() < self.config.recoloured
        return Part(cutout, motion, count, pick(rng, self.config.colours) if recolour else "", size, place)

    def _background(self, rng: Random) -> tuple[str, tuple[str, ...]]:
        name = pick(rng, self.config.backgrounds)
        names = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "grey", "black")
        first = pick(rng, names)
        second = pick(rng, [n for n in names if n != first])
        return name, {"plain": (first,), "gradient": (first, second)}.get(name, ())

    def _counted(self, rng: Random, background: str, colours: tuple[str, ...]) -> Plan:
        cutout = self.cutouts.draw(rng, countable=True)
        motions = [m for m in self.motions if m in (*SHARED_MOTIONS, *IN_PLACE)] or ["still"]
        count = 2 + int(rng.random() * (self.config.largest_count - 1))
        return Plan("counted", (self._part(rng, cutout, pick(rng, motions), count),), background, colours)

    def _related(self, rng: Random, background: str, colours: tuple[str, ...]) -> Plan:
        first, second = self.cutouts.draw_several(rng, 2)
        motion, relation = pick(rng, self.shared), pick(rng, self.config.relations)
        parts = (self._part(rng, first, motion), self._part(rng, second, motion))
        return Plan("related", parts, background, colours, relation, pick(rng, ("left", "right")))

    def _several(self, rng: Random, background: str, colours: tuple[str, ...]) -> Plan:
        """Two or three things with their own motions; where the motion says so, one goes after or around the other."""
        meeting = [m for m in ("following", "orbiting") if m in self.config.motions and self.moves]
        if meeting and rng.random() < 0.35:
            motion, side = pick(rng, meeting), pick(rng, ("left", "right"))
            first, second = self.cutouts.draw_several(rng, 2)
            other = side if motion == "following" else "still"
            parts = (self._part(rng, first, motion), self._part(rng, second, other))
            return Plan(motion, parts, background, colours, motion, side)
        drawn = self.cutouts.draw_several(rng, 2 if rng.random() < 0.7 else 3)
        each = tuple(self._part(rng, c, pick(rng, self.motions)) for c in drawn)
        return Plan("several", each, background, colours)
