"""The judges together: fitted on true scenes of the training split, kept in the cache folder, asked about a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from benchmarks.judges.backgrounds import Backdrop, BackdropNetwork, backdrop_of, fit_backgrounds
from benchmarks.judges.clips import TrueClip, scenes_for_judges, true_clips
from benchmarks.judges.foreground import Finder, fit_finder, look
from benchmarks.judges.learning import kept, seeded
from benchmarks.judges.motions import MotionNetwork, fit_motions, looks_the_same_turned, motion_of, track_of
from benchmarks.judges.relations import RelationNetwork, fit_relations, relation_class, relation_of
from benchmarks.judges.things import ThingNetwork, concept_group, fit_things, groups_of, likely

Array = np.ndarray


@dataclass(frozen=True)
class PanelConfig:
    """How the judges are fitted.

    Attributes:
        clips: true scenes of the training split.
        tracked: of these so many with one thing are followed, for the judge of motion.
        finder_steps, background_steps, motion_steps, relation_steps, thing_steps: steps of each fit.
        seed: of initial weights and of what is drawn.
    """

    clips: int = 3600
    tracked: int = 1500
    finder_steps: int = 700
    background_steps: int = 500
    motion_steps: int = 800
    relation_steps: int = 500
    thing_steps: int = 3000
    seed: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the judges say of a clip of which they know what it should show.

    Attributes:
        ranks: of each thing its place among all concepts, 0 the likeliest.
        present: of each, whether something in the clip is likelier it than any other concept.
        motion: how it moves; "" for a picture.
        backdrop: what lies behind.
        relation: a name of relations.CLASSES, or "".
        best: the likeliest concept, or "".
        count: things in the middle one of the frames, by their number.
    """

    ranks: tuple[int, ...]
    present: tuple[bool, ...]
    motion: str
    backdrop: Backdrop
    relation: str
    best: str
    count: int


class Panel:
    """The judges.

    Args:
        changes: settings of the true scenes (stores, names), for both fitting and concepts.

    Raises:
        UserError: an emoji store is not there.
    """

    def __init__(self, config: PanelConfig | None = None, **changes: Any):
        self.config, self.changes = config or PanelConfig(), changes
        self.source = scenes_for_judges("train", **changes)
        self.groups = groups_of(self.source.cutouts)
        self._clips: list[TrueClip] | None = None
        config, common = self.config, {"seed": self.config.seed, "scenes": changes}
        scenes = common | {"clips": config.clips}
        seeds = iter(range(5 * config.seed, 5 * config.seed + 5))

        def make(cls: Any, *sizes: int) -> nn.Module:
            return seeded(lambda: cls(*sizes), next(seeds))

        self.finder = self._kept("finder", make(Finder), scenes | {"steps": config.finder_steps}, self._fit_finder)
        self.backgrounds = self._kept(
            "backgrounds", make(BackdropNetwork), scenes | {"steps": config.background_steps}, self._fit_backgrounds
        )
        followed = scenes | asdict(replace(config, thing_steps=0, relation_steps=0, background_steps=0))
        self.motions = self._kept("motions", make(MotionNetwork), followed, self._fit_motions)
        self.relations = self._kept(
            "relations", make(RelationNetwork), scenes | {"steps": config.relation_steps}, self._fit_relations
        )
        named = common | {"steps": config.thing_steps, "concepts": self.groups}
        self.things = self._kept("things", make(ThingNetwork, len(self.groups)), named, self._fit_things)
        self._clips = None

    def _kept(self, name: str, network: nn.Module, settings: dict[str, Any], make: Any) -> nn.Module:
        return kept(name, network, settings, lambda: make(network))

    def _scenes(self) -> list[TrueClip]:
        if self._clips is None:
            print(f"  drawing {self.config.clips} true scenes", flush=True)
            self._clips = true_clips(self.source, range(self.config.clips))
        return self._clips

    def _fit_finder(self, network: nn.Module) -> None:
        fit_finder(network, self._scenes(), self.config.finder_steps, self.config.seed)

    def _fit_backgrounds(self, network: nn.Module) -> None:
        rows = []
        for clip in self._scenes():
            outlines = np.repeat((clip.labels >= 0)[..., None], 3, -1).astype(np.float32)
            told = clip.told
            rows.append((clip.frames[clip.outlined], outlines, told["background"], told["background_colours"]))
        fit_backgrounds(network, rows, self.config.background_steps, self.config.seed)

    def _fit_motions(self, network: nn.Module) -> None:
        alone = [c for c in self._scenes() if c.told["layout"] == "one"][: self.config.tracked]
        tracks = [track_of(c.frames, look(self.finder, c.frames)) for c in alone]
        motions = [c.told["things"][0]["motion"] for c in alone]
        fit_motions(network, tracks, motions, self.config.motion_steps, self.config.seed)

    def _fit_relations(self, network: nn.Module) -> None:
        fit_relations(network, self._scenes(), self.config.relation_steps, self.config.seed)

    def _fit_things(self, network: nn.Module) -> None:
        fit_things(network, self.source.cutouts, self.config.thing_steps, self.config.seed)

    def place_of(self, concept: str) -> int:
        """A concept's place in `groups`.

        Raises:
            ValueError: it is none of those that the judges know.
        """
        return self.groups.index(concept_group(concept))

    def judge(self, frames: Array, concepts: Sequence[str]) -> Verdict:
        """Judge a clip uint8 [F, 64, 64, 3], or a picture (F = 1), that should show these concepts."""
        seen = look(self.finder, frames)
        found = likely(self.things, frames, seen)
        places = [self.place_of(c) for c in concepts]
        relation = relation_of(self.relations, found, *places) if len(places) == 2 else ""
        motion = motion_of(self.motions, frames, seen) if len(frames) > 1 else ""
        best = self.groups[int(found.scores.argmax())] if len(found.scores) else ""
        ranks = tuple(found.rank(p) for p in places)
        count = sorted(len(t) for t in found.things)[len(found.things) // 2] if found.things else 0
        present = tuple(found.present(p) for p in places)
        return Verdict(ranks, present, motion, backdrop_of(self.backgrounds, frames, seen), relation, best, count)

    def motions_as_seen(self, frames: Array, motion: str) -> set[str]:
        """The motions that are right for a true clip: of a round thing that spins, standing still too."""
        if motion == "spinning" and looks_the_same_turned(frames, look(self.finder, frames)):
            return {"spinning", "still"}
        return {motion}


def rights(verdict: Verdict, told: dict[str, Any], motions: set[str], moves: bool) -> dict[str, bool]:
    """What is right in a clip that should show a scene, by name.

    Args:
        told: `SpritesSource.describe`'s answer.
        motions: those that are right, of one thing.
        moves: it is a video; of pictures no motion is asked for.
    """
    out: dict[str, bool] = {}
    background = verdict.backdrop.is_right(told["background"], told["background_colours"])
    if len(verdict.ranks) == 1:
        out["thing"], out["thing among five"] = verdict.ranks[0] < 1, verdict.ranks[0] < 5
        out["background"] = background
        if moves:
            out["motion"] = verdict.motion in motions
        out["all"] = out["thing"] and background and out.get("motion", True)
        return out
    # each by a thing of its own: one thing has one likeliest concept
    out["both present"], out["one present"] = all(verdict.present), any(verdict.present)
    wanted = relation_class(told["relation"], told["side"])
    out["relation, of those"] = verdict.relation == wanted
    out["background"] = background
    out["both and relation"] = out["both present"] and verdict.relation == wanted
    return out
