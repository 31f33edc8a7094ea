"""The source: a numbered, unlimited set of composed scenes, each a function of (seed, split, index) alone."""

from __future__ import annotations

from random import Random
from typing import Any

from muybridge.data.clips import Clip
from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.captions import caption, plainest
from muybridge.data.sprites.cutouts import Cutouts
from muybridge.data.sprites.plan import Plan, Planner, combinations, is_held_out
from muybridge.data.sprites.scene import SpriteScene
from muybridge.data.sprites.stage import Stage
from muybridge.data.sprites.vocabulary import PHRASES, SCENERY
from muybridge.diffusion.noise import derive_seed


class SpritesSource:
    """Clips of composed scenes.

    Raises:
        UserError: a store is not there, or has nothing of what is asked for.
    """

    def __init__(self, config: SpritesConfig):
        self.config = config
        self.cutouts = Cutouts(config)
        self.planner = Planner(config, self.cutouts)
        self._pictures = config.num_frames == 1
        self.planner.draw(self._rng("plan", 0))  # a vocabulary that leaves nothing is told at once

    def __len__(self) -> int:
        return self.config.num_clips

    def _rng(self, purpose: str, index: int) -> Random:
        return Random(derive_seed(self.config.seed, f"sprites-{self.config.split}-{purpose}", index))

    def plan(self, index: int) -> Plan:
        """What the index'th scene shows.

        Raises:
            IndexError: there is no such clip.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        return self.planner.draw(self._rng("plan", index))

    def scene(self, index: int) -> tuple[SpriteScene, str]:
        """The index'th scene and its caption; the scene gives frames, flow, depth, masks and edges."""
        plan = self.plan(index)
        return Stage(self.config, self.cutouts, plan, self._rng("stage", index)).scene(), self._caption(plan, index)

    def _caption(self, plan: Plan, index: int) -> str:
        config = self.config
        rng = self._rng("words", index)
        return caption(plan, rng, self._pictures, config.plainest, config.filler, config.with_style)

    def clip(self, index: int) -> Clip:
        scene, text = self.scene(index)
        return Clip(scene.frames(), text, self.config.fps)

    def still(self, index: int, frame: int) -> Clip:
        scene, text = self.scene(index)
        return Clip(scene.frame(frame)[None], text, self.config.fps)

    def captions(self) -> list[str]:
        return [self._caption(self.plan(i), i) for i in range(len(self))]

    def names(self) -> list[str]:
        """What captions call things, motions, backgrounds and colours, each once."""
        things = {n for found in self.cutouts.all.values() for c in found for n in (c.label, *c.noun.words)}
        config, does = self.config, [PHRASES.get(m, ()) for m in self.config.motions]
        acts = {f"{verb} {rest}".strip() for verbs in does for verb, rest in verbs}
        behind = {phrase for b in config.backgrounds for phrase in SCENERY[b] if "{" not in phrase} - {""}
        return sorted(things | acts | behind | set(config.colours))

    def describe(self, index: int) -> dict[str, Any]:
        """What the index'th scene shows, for programs that judge: nothing in it needs its pixels.

        Returns:
            `caption`, `plainest` (its plainest phrasing), `layout`, `style`, `background` and `background_colours`,
            `relation` (how the first thing stands to the second, or "") and `side`, `leaves`, `held_out` (its held-out
            combinations), and `things`: per kind `name`, `concept`, `words` (nouns that are true of it), `count`,
            `motion`, `colour` ("" is its own),
            `size`, `place`, `loop`, `origin`. The kind of each of the scene's actors
            is its `part`.
        """
        plan = self.plan(index)
        held = [c for c in combinations(plan, not self._pictures) if is_held_out(c, self.config.held_out)]
        things = [
            {
                "name": p.cutout.label, "concept": p.cutout.noun.concept, "words": list(p.cutout.noun.words),
                "count": p.count,
                "motion": p.motion, "colour": p.colour, "size": p.size, "place": p.place, "loop": p.cutout.loop,
                "origin": p.cutout.origin,
            }
            for p in plan.parts
        ]  # fmt: skip
        return {
            "caption": self._caption(plan, index), "plainest": plainest(plan, self._pictures), "layout": plan.layout,
            "style": plan.parts[0].cutout.style, "background": plan.background,
            "background_colours": list(plan.background_colours), "relation": plan.relation, "side": plan.side,
            "leaves": plan.leaves, "held_out": sorted(held), "things": things,
        }  # fmt: skip

    def origins(self) -> list[str]:
        """The packages whose art it shows; their licences lie in the stores' `licences/`."""
        return sorted({c.origin for found in self.cutouts.all.values() for c in found})
