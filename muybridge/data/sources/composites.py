"""`composites`: pictures put together from cut-outs on a ground, with their exact inverse depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.data.sources import MOST_CLIPS, frames, side, split_field
from muybridge.data.sources.emoji import STYLES
from muybridge.errors import UserError


@dataclass(frozen=True)
class CompositesConfig(Settings):
    """What is put together."""

    where: ClassVar[str] = "data"

    size: int = side(64, "pixels a side", low=16)
    num_clips: int = setting(20000, "pictures in each split", low=1, high=MOST_CLIPS)
    seed: int = setting(0, "of the pictures")
    store: str = setting("", "of the cut-outs; the emoji stills by default")
    styles: tuple[str, ...] = setting(
        ("fluent", "noto", "twemoji", "flat", "emojione"),
        "of the cut-outs; by default those whose licences ask for no more than credit", choices=STYLES,
    )  # fmt: skip
    num_frames: int = frames(2, "always 2: the picture and its inverse depth")
    split: str = split_field()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames != 2:
            raise UserError(f"data.num_frames: a composite has 2, the picture and its depth; got {self.num_frames}")


Config = CompositesConfig


def open_source(config: CompositesConfig, split: str) -> Any:
    from muybridge.data.composites import CompositesSource

    return CompositesSource(replace(config, split=split))
