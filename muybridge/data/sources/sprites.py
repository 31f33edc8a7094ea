"""`sprites`: captioned composed scenes of the emoji stores' stills and loops, unlimited, with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import MOST_CLIPS, check_clip, frames, side
from muybridge.data.sources.emoji import STYLES
from muybridge.data.sprites.vocabulary import BACKGROUNDS, COLOURS, COUNTS, MOTIONS, RELATIONS
from muybridge.errors import UserError

SPLITS = ("train", "validation", "held_out")


def share(default: float, help: str) -> Any:
    """A field for a share, 0..1."""
    return setting(default, help, low=0, high=1)


@dataclass(frozen=True)
class SpritesConfig(Settings):
    """What is drawn and how it is said. Of the lists, a name that is repeated is drawn more often."""

    where: ClassVar[str] = "data"

    height: int = side(64, low=16)
    width: int = side(64, low=16)
    num_frames: int = frames(16, "frames of every clip; 1 makes pictures, whose captions say no motion")
    fps: float = setting(8.0, "frames a second", above=0, high=240)
    num_clips: int = setting(
        100000, "clips in the training split; the other splits are as large, of other scenes", low=1, high=MOST_CLIPS
    )
    seed: int = setting(0, "of the scenes", low=0)
    split: str = setting(
        "train",
        "validation is the same distribution, other scenes; in held_out every scene has a held-out combination",
        choices=SPLITS,
    )  # fmt: skip
    stills: str = setting("", "the store of emoji stills; a cache folder by default")
    animations: str = setting("", "the store of emoji animations; a cache folder by default")
    loops: float = share(0.5, "share of things that are loops; 0 does without the animations, 1 without the stills")
    names_split: str = setting(
        "train", "names of the stores' training split, which `emoji` trains on too, or all", choices=("train", "all")
    )
    styles: tuple[str, ...] = setting(
        ("fluent", "noto", "twemoji", "flat", "emojione"),
        "of the things; by default those whose licences ask for no more than credit", choices=STYLES, fewest=1,
    )  # fmt: skip
    origins: tuple[str, ...] = setting(
        (), "take only art from packages whose names start so (@iconify-json/noto); empty takes all of these styles"
    )
    things: str = setting(
        "common", "common: some two hundred that people write of; all: everything that the stores hold",
        choices=("common", "all"),
    )  # fmt: skip
    names: tuple[str, ...] = setting(
        (), "take these things instead, by their name or plain noun; empty takes those of `things`"
    )
    motions: tuple[str, ...] = setting(("still", *MOTIONS), "of things", choices=MOTIONS, fewest=1)
    backgrounds: tuple[str, ...] = setting(
        ("white", "plain", *BACKGROUNDS), "behind them", choices=BACKGROUNDS, fewest=1
    )
    relations: tuple[str, ...] = setting(RELATIONS, "of two things", choices=RELATIONS, fewest=1)
    colours: tuple[str, ...] = setting(
        tuple(COLOURS), "of things that are recoloured", choices=tuple(COLOURS), fewest=1
    )
    plain: float = share(0.15, "share of clips that show one thing alone on white, its bare name as caption")
    counted: float = share(0.12, "share of the other clips that show several of a thing")
    related: float = share(0.2, "share of them with two things in a relation")
    several: float = share(0.18, "share of them with two or three things, each with its own motion")
    largest_count: int = setting(4, "things of one kind at most", low=2, high=max(COUNTS))
    recoloured: float = share(0.2, "share of things that are recoloured")
    with_style: float = share(0.4, "share of captions that name the style")
    plainest: float = share(0.3, "share of captions in the plainest phrasing")
    filler: float = share(0.2, "share of captions with words around them that mean nothing here")
    held_out: float = setting(
        0.1, "share of (thing, motion), (thing, background) and (thing, relation, thing) that are never in training",
        low=0, below=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.num_frames, self.height, self.width)
        if self.counted + self.related + self.several > 1:
            raise UserError(
                "data: counted, related and several are shares of the same clips; they add up to more than 1"
            )
        if self.split == "held_out" and self.held_out == 0:
            raise UserError("data.split is held_out, but data.held_out keeps no combination out")


Config = SpritesConfig


def open_source(config: SpritesConfig, split: str) -> Any:
    """A recipe may train on the held-out combinations; every other split replaces what it says."""
    from muybridge.data.sprites.source import SpritesSource

    return SpritesSource(config if split == "train" else replace(config, split=split))
