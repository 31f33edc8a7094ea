"""Settings of Text2Video-Zero; light, so that options are made from them."""

from __future__ import annotations

from dataclasses import dataclass

from muybridge.configuration import Settings, setting
from muybridge.errors import UserError
from muybridge.nn.frame_attention_modes import MODES


@dataclass(frozen=True)
class ZeroConfig(Settings):
    """What makes frames move and keeps them together."""

    motion: tuple[float, float] = setting(
        (-12.0, -12.0),
        "how far the picture moves a frame, right and down, pixels of a 512-pixel picture",
        low=-512,
        high=512,
    )
    motion_field: bool = setting(True, "start frames from the first one's latent, moved; else each from its own noise")
    moved_at: float = setting(0.1, "share of the run after which frame 1 is moved: T', step 5 of 50", low=0, below=1)
    joined_at: float = setting(0.04, "share of the run to which it is noised back: T, step 2 of 50", low=0, below=1)
    attention: str = setting("first", "whose tokens frames attend to", choices=MODES)
    chunk: int = setting(
        7, "frames of one network call beside the first; results do not depend on it beyond rounding", low=1
    )
    background: float = setting(
        0.0, "how much of the moved first background replaces each frame's; 0 is off, the paper has 0.6", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.joined_at > self.moved_at:
            raise UserError(
                f"joined_at and moved_at are shares of the run with joined_at first, got {self.joined_at}, "
                f"{self.moved_at}"
            )

    @property
    def delta(self) -> tuple[float, float]:
        """The paper's lambda delta: where a moved frame's content is taken from."""
        return -self.motion[0], -self.motion[1]

    def check_chunk(self, frames: int) -> None:
        """Refuse chunks in which frames would not find those that they look at.

        Raises:
            UserError: says which chunk is needed.
        """
        if self.attention in ("first_previous", "full") and self.chunk < frames - 1:
            raise UserError(
                f"attention {self.attention!r} looks at other frames than the first: give a chunk of all frames "
                f"({frames - 1})"
            )
