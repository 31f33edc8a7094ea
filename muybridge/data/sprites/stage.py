"""From a plan to a scene: sizes, places and paths of every actor."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.backgrounds import GROUNDS, paint
from muybridge.data.sprites.cutouts import Cutouts, Picture, recolour
from muybridge.data.sprites.paths import Path, Region, between, path, times
from muybridge.data.sprites.plan import Part, Plan
from muybridge.data.sprites.scene import Actor, SpriteScene

Array = np.ndarray
#: Half of a thing's longer side as a share of the picture's shorter side.
RADII = {"small": (0.14, 0.18), "medium": (0.25, 0.32), "large": (0.38, 0.45)}
#: A member of a group: its part, its offset from the group's middle, its radius (pixels), its depth.
Member = tuple[int, tuple[float, float], float, float]


class Stage:
    """Puts one plan on the stage.

    Args:
        rng: of everything that the plan leaves open.
    """

    def __init__(self, config: SpritesConfig, cutouts: Cutouts, plan: Plan, rng: Random):
        self.config, self.plan, self.rng = config, plan, rng
        self.pictures: list[Picture] = [cutouts.picture(p.cutout) for p in plan.parts]
        self.side, self.frames = min(config.height, config.width), config.num_frames
        ground = plan.background in GROUNDS
        self.horizon = int(config.height * between(rng, 0.4, 0.6)) if ground else config.height
        self.looks = [int(rng.random() * len(p.frames)) for p in self.pictures]
        self.pixels = [self._coloured(p, i) for i, p in enumerate(plan.parts)]

    def scene(self) -> SpriteScene:
        config, plan = self.config, self.plan
        layouts = {"counted": self._counted, "related": self._related, "several": self._several,
                   "following": self._following, "orbiting": self._orbiting}  # fmt: skip
        actors = layouts.get(plan.layout, self._one)()
        seed, size = int(self.rng.random() * 2**53), (config.height, config.width)

        def painted() -> Array:
            return paint(plan.background, plan.background_colours, *size, self.horizon, seed)

        return SpriteScene(*size, self.frames, tuple(actors), painted, np.zeros((self.frames, 2)))

    def _coloured(self, part: Part, index: int) -> Array:
        frames = self.pictures[index].frames
        if self.frames == 1:
            frames = frames[self.looks[index]][None]
        return recolour(frames, part.colour) if part.colour else frames

    # --- layouts ----------------------------------------------------------------------------------------------------

    def _one(self) -> list[Actor]:
        part = self.plan.parts[0]
        radius = self.side * between(self.rng, *RADII[part.size])
        if self.plan.layout == "plain":
            radius = self.side * between(self.rng, 0.4, 0.48)
        if part.motion == "spinning":
            radius = min(radius, 0.36 * self.side)  # its corners stay inside
        region = self._place(part.place, radius) if part.place else self._region(part.motion)
        return self._group([(0, (0.0, 0.0), radius, 1.0)], part.motion, region, self.plan.leaves)

    def _counted(self) -> list[Actor]:
        """A row, or two; no two touch."""
        part = self.plan.parts[0]
        columns = part.count if part.count <= 3 else math.ceil(part.count / 2)
        rows = math.ceil(part.count / columns)
        width, height = self.config.width, self.config.height
        cell = min(0.92 * width / columns, (0.62 if part.motion != "still" else 0.9) * height / rows)
        turned = 0.68 if part.motion in ("spinning", "swinging") else 0.9
        radius = cell / 2 * turned * between(self.rng, 0.75, 1.0)
        if part.motion in ("left", "right"):
            radius, cell = radius * 0.7, cell * 0.7
        members: list[Member] = []
        for i in range(part.count):
            row, column = divmod(i, columns)
            in_row = min(columns, part.count - row * columns)
            offset = (cell * (column - (in_row - 1) / 2), cell * (row - (rows - 1) / 2))
            members.append((0, offset, radius, 1.0 + i / 10))
        return self._group(members, part.motion, (0, 0, width - 1, height - 1))

    def _related(self) -> list[Actor]:
        (ax, ay), (bx, by) = (p.extents for p in self.pictures)
        relation, rng = self.plan.relation, self.rng
        r, near_first = between(rng, 0.22, 0.27) * self.side, True
        first, second = r, r
        gap = between(rng, 0.02, 0.08) * self.side
        dx, dy = 0.0, 0.0
        if relation in ("above", "below"):
            dy = -(ay * first + by * second + gap) * (1 if relation == "above" else -1)
            dx = between(rng, -0.15, 0.15) * r
        elif relation == "beside":
            dx = -(ax * first + bx * second + gap) * (1 if self.plan.side == "left" else -1)
            dy = by * second - ay * first  # both stand on one line
        elif relation in ("on", "riding"):
            first *= between(rng, 0.7, 0.9)
            second *= 1.15
            sunk = between(rng, 0.02, 0.08) if relation == "on" else between(rng, 0.3, 0.45)
            dy = -(ay * first + by * second * (1 - 2 * sunk))
        else:
            near_first = relation == "in front of"
            hidden = (ax * first + bx * second) * between(rng, 0.5, 0.65)
            dx, dy = hidden * (1 if rng.random() < 0.5 else -1), (by * second - ay * first) * 0.8
        members: list[Member] = [(0, (dx / 2, dy / 2), first, 1.0 if near_first else 2.0),
                                 (1, (-dx / 2, -dy / 2), second, 2.0 if near_first else 1.0)]  # fmt: skip
        motion = self.plan.parts[0].motion
        wanted = 0.72 if motion != "still" else 0.94
        return self._group(self._shrunk(members, wanted), motion, self._region(motion))

    def _several(self) -> list[Actor]:
        """Each in its own lane: beside each other, or one above the other when they go left or right."""
        motions = [p.motion for p in self.plan.parts]
        stacked = any(m in ("left", "right") for m in motions)
        if any(m in ("up", "down", "bouncing", "jumping") for m in motions) and stacked:
            stacked = self.rng.random() < 0.5
        width, height, n = self.config.width, self.config.height, len(motions)
        order = list(range(n))
        order.sort(key=lambda _: self.rng.random())
        actors: list[Actor] = []
        for place, i in enumerate(order):
            low, high = place / n, (place + 1) / n
            region = (0, low * height, width - 1, high * height - 1) if stacked else (
                low * width, 0, high * width - 1, height - 1)  # fmt: skip
            short = min(region[2] - region[0], region[3] - region[1])
            along = motions[i] in (("up", "down", "bouncing", "jumping") if stacked else ("left", "right"))
            share = (
                0.26 if along or motions[i] == "orbiting" else 0.36 if motions[i] in ("spinning", "swinging") else 0.44
            )
            radius = short * share * between(self.rng, 0.85, 1.0)
            actors += self._group([(i, (0.0, 0.0), radius, 1.0 + i)], motions[i], region)
        return sorted(actors, key=lambda a: a.part)

    def _following(self) -> list[Actor]:
        """The first goes where the second goes, behind it."""
        (ax, _), (bx, _) = (p.extents for p in self.pictures)
        r = between(self.rng, 0.13, 0.16) * self.side
        apart = (ax + bx) * r * between(self.rng, 1.15, 1.4)
        ahead = -apart if self.plan.side == "left" else apart
        members: list[Member] = [(0, (-ahead / 2, 0.0), r, 2.0), (1, (ahead / 2, 0.0), r, 1.0)]
        return self._group(members, self.plan.side, self._region("left"))

    def _orbiting(self) -> list[Actor]:
        """The first circles around the second, which stands in the middle."""
        width, height, rng = self.config.width, self.config.height, self.rng
        inner, outer = between(rng, 0.15, 0.19) * self.side, between(rng, 0.09, 0.12) * self.side
        middle = ((width - 1) / 2, (height - 1) / 2)
        held = self._group([(1, (0.0, 0.0), inner, 2.0)], "still", (*middle, *middle))
        reach = self.side * 0.5 - outer
        turn = (
            2
            * math.pi
            * (between(rng, 0.8, 1.3) * times(self.frames) * (1 if rng.random() < 0.5 else -1) + rng.random())
        )
        centres = np.array(middle) + np.stack([np.cos(turn), np.sin(turn)], 1) * reach * between(rng, 0.92, 1.0)
        way = Path(centres, np.ones(self.frames), np.zeros(self.frames))
        return [self._actor(0, (0.0, 0.0), outer, 1.0, way, False), *held]

    # --- groups -----------------------------------------------------------------------------------------------------

    def _region(self, motion: str) -> Region:
        """Where a group may be: all of the picture, or for what stands on a ground the part that it can stand in."""
        width, height = self.config.width, self.config.height
        if self.plan.background in GROUNDS and motion in ("left", "right", "still", "spinning", "swinging"):
            return 0, self.horizon * 0.6, width - 1, height - 1
        return 0, 0, width - 1, height - 1

    def _place(self, name: str, radius: float) -> Region:
        """The square around a named place, with a little room."""
        width, height = self.config.width, self.config.height
        slack, edge = 0.03 * self.side, radius * 1.02
        x = edge + slack if "left" in name else width - 1 - edge - slack if "right" in name else (width - 1) / 2
        y = edge + slack if "top" in name else height - 1 - edge - slack if "bottom" in name else (height - 1) / 2
        reach = radius + slack
        return x - reach, y - reach, x + reach, y + reach

    def _shrunk(self, members: list[Member], share: float) -> list[Member]:
        """The group made smaller where it takes more than a share of the picture's width or height."""
        half = self._half(members)
        scale = min(1.0, share * self.config.width / 2 / half[0], share * self.config.height / 2 / half[1])
        return [(i, (x * scale, y * scale), r * scale, depth) for i, (x, y), r, depth in members]

    def _half(self, members: list[Member]) -> tuple[float, float]:
        x = max(abs(o[0]) + r * self.pictures[i].extents[0] for i, o, r, _ in members)
        y = max(abs(o[1]) + r * self.pictures[i].extents[1] for i, o, r, _ in members)
        return x, y

    def _group(self, members: list[Member], motion: str, region: Region, leaves: bool = False) -> list[Actor]:
        half = self._half(members)
        single = motion in ("spinning", "swinging")
        if single and len(members) > 1:  # each turns by itself
            still = path(self.rng, "still", half, region, self.frames)
            turned = path(
                self.rng, motion, self._half([(members[0][0], (0.0, 0.0), *members[0][2:])]), region, self.frames
            )
            way = Path(still.centres[:1] + turned.centres - turned.centres[:1], still.scales, turned.angles)
        else:
            way = path(self.rng, motion, half, region, self.frames, leaves)
        mirrored = motion == "right"
        return [self._actor(i, offset, radius, depth, way, mirrored) for i, offset, radius, depth in members]

    def _actor(
        self, part: int, offset: tuple[float, float], radius: float, depth: float, way: Path, mirrored: bool
    ) -> Actor:
        pixels = self.pixels[part]
        count = len(pixels)
        shown = (self.looks[part] + np.arange(self.frames) * count // max(self.frames, 1)) % count
        centres = way.centres + np.array(offset) * way.scales[:, None]
        flip = mirrored and self.plan.parts[part].cutout.noun.sideways
        return Actor(
            pixels, self.pictures[part].extents, centres, way.scales * radius, way.angles, depth, shown, flip, part
        )
