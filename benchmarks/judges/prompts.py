"""What models are asked to show: held-out combinations, two things in a relation, sentences around a known thing.

Each prompt has the true scene that it describes, so that the judges' own ceiling is measured on the same scenes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.judges.clips import Array
from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites.captions import Writer
from muybridge.data.sprites.source import SpritesSource
from muybridge.data.sprites.vocabulary import BACKGROUNDS, MOTIONS

#: Scenes drawn to find those of one layout.
SEED = 7
#: Sentences around a thing whose other words are in no list of `sprites` (tests/evaluation/test_composition.py).
SENTENCES = (
    "whatever became of {thing}, asked the accountant",
    "the committee has finally approved {thing}",
    "an invoice concerning {thing} arrived from overseas",
    "parliament debated {thing} for several weeks",
    "archaeologists were puzzled by {thing}",
    "we regret to inform you that {thing} has been postponed",
    "my therapist says {thing} represents unresolved guilt",
    "economists blame inflation entirely upon {thing}",
    "quantum theory predicts {thing}",
    "bring me {thing} or else i shall complain to the ombudsman",
    "a shareholder bequeathed {thing} to the orphanage",
    "{thing}, notwithstanding clause nineteen of the treaty",
    "{thing}, sponsored by generous benefactors",
    "{thing}, depicted by an amateur enthusiast",
    "{thing}, whose licence expired in february",
    "{thing}, awaiting bureaucratic approval",
    "{thing} beloved by statisticians everywhere",
    "{thing} investigated for tax evasion",
    "{thing} nominated for a prestigious award",
    "{thing} as described in medieval manuscripts",
    "{thing} rendered with unprecedented fidelity",
    "{thing} suffering from existential dread",
    "{thing} explained to undergraduates",
    "{thing} boasting questionable credentials",
    "once upon a time {thing} applied for a scholarship",
    "legend claims that {thing} invented algebra",
    "correspondence between novelists regarding {thing}",
    "regarding {thing}: kindly consult the appendix",
    "subscribe today and receive {thing} absolutely gratis",
    "hypothetically speaking, {thing} deserves a pension",
)


@dataclass(frozen=True)
class Case:
    """A prompt, and what it should show.

    Attributes:
        prompt: what a model is given.
        told: `SpritesSource.describe`'s answer for the true scene.
        truth: draws the true scene's frames, uint8 [F, 64, 64, 3].
    """

    prompt: str
    told: dict[str, Any]
    truth: Callable[[], Array]

    @property
    def concepts(self) -> list[str]:
        return [t["concept"] for t in self.told["things"]]


def _source(frames: int, **changes: Any) -> SpritesSource:
    settings: dict[str, Any] = {
        "num_frames": frames, "seed": SEED, "plain": 0.0, "counted": 0.0, "related": 0.0, "several": 0.0,
        "plainest": 0.0, "num_clips": 1_000_000,
    }  # fmt: skip
    return SpritesSource(SpritesConfig(**{**settings, **changes}))


def _case(source: SpritesSource, index: int, prompt: str = "") -> Case:
    told = source.describe(index)
    return Case(prompt or told["caption"], told, lambda: source.clip(index).frames)


def single_cases(count: int, frames: int = 16, **changes: Any) -> list[Case]:
    """One thing whose combination with its motion or its background is held out, in free phrasing; both are said.

    Args:
        frames: 1 for pictures, of which no motion is said.
        changes: other settings of the source (stores, names).
    """
    motions = tuple(m for m in MOTIONS if m not in ("still", "following"))
    shown = tuple(b for b in BACKGROUNDS if b != "white")
    source = _source(frames, split="held_out", motions=motions, backgrounds=shown, **changes)
    return [_case(source, i) for i in range(count)]


def pair_cases(count: int, frames: int = 16, **changes: Any) -> list[Case]:
    """Two things in a relation, of a held-out combination, in free phrasing."""
    source = _source(frames, split="held_out", related=1.0, **changes)
    return [_case(source, i) for i in range(count)]


def sentence_cases(count: int, frames: int = 16, **changes: Any) -> list[Case]:
    """A known thing inside a sentence of words that are in no caption; on white, where nothing is said of the rest."""
    source = _source(frames, split="validation", motions=("still",), backgrounds=("white",), recoloured=0.0, **changes)
    cases = []
    for i in range(count):
        plan = source.plan(i)
        thing = Writer(plan, None, pictures=True).noun(plan.parts[0])
        cases.append(_case(source, i, SENTENCES[i % len(SENTENCES)].format(thing=thing)))
    Random(SEED).shuffle(cases)
    return cases
