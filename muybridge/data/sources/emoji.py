"""`emoji`: captioned animated loops (Fluent) and captioned stills in six styles; `muybridge data build emoji` makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import frames, rgb, side, split_field

KINDS = ("animations", "stills")
#: SVG sets: package -> (style word, licence).
SVG_SETS = {
    "@iconify-json/noto@1.2.9": ("noto", "Apache-2.0, Google"),
    "@iconify-json/twemoji@1.2.5": ("twemoji", "CC-BY-4.0, Twitter and contributors (jdecked/twemoji)"),
    "@iconify-json/openmoji@1.2.29": ("openmoji", "CC-BY-SA-4.0, OpenMoji"),
    "@iconify-json/fluent-emoji-flat@1.2.6": ("flat", "MIT, Microsoft Corporation"),
    "@iconify-json/emojione@1.2.3": ("emojione", "CC-BY-4.0, EmojiOne"),
}
STYLES = ("fluent", *(style for style, _ in SVG_SETS.values()))


@dataclass(frozen=True)
class EmojiKind(Settings):
    """What building the data and training on it both say."""

    where: ClassVar[str] = "data"

    kind: str = setting("animations", "emoji: 16-frame loops, or pictures in six styles", choices=KINDS)
    num_frames: int = frames(16, "frames of every clip; stills are repeated")


@dataclass(frozen=True)
class EmojiBuild(EmojiKind):
    """How the emoji's packages are decoded."""

    size: int = side(64, "pixels a side")
    packages: str = setting("", "emoji: a folder with the npm archives; those missing are fetched into it")
    skin_tones: bool = setting(False, "emoji: keep the skin-tone variants")


@dataclass(frozen=True)
class EmojiConfig(EmojiKind):
    """Which part of the emoji data."""

    background: tuple[int, ...] = rgb((255, 255, 255), "RGB behind the emoji")
    with_style: bool = setting(True, "name the style in the captions")
    styles: tuple[str, ...] = setting((), "keep only these styles; empty keeps all", choices=STYLES)
    each_frame: bool = setting(False, "every frame is a clip of its own (num_frames 1)")
    store: str = setting("", "a folder that `muybridge data build emoji` wrote; a cache folder by default")
    split: str = split_field()


Config = EmojiConfig


def open_source(config: EmojiConfig, split: str) -> Any:
    from muybridge.data.emoji import EmojiSource

    return EmojiSource(replace(config, split=split))
