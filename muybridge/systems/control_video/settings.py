"""Settings of ControlVideo; light, so that options are made from them."""

from __future__ import annotations

from dataclasses import dataclass

from muybridge.configuration import Settings, setting
from muybridge.errors import UserError
from muybridge.nn.frame_attention_modes import MODES

#: Steps of the run at which the official code smooths, as shares: 30 and 31 of 50.
SMOOTH_AT = 0.6
#: Frames above which key frames are sampled first, unless the settings say otherwise.
LONG = 20


@dataclass(frozen=True)
class ControlVideoConfig(Settings):
    """How frames are kept together."""

    attention: str = setting("full", "whose tokens frames attend to (the paper's: full)", choices=MODES)
    smooth_at: float | None = setting(
        SMOOTH_AT, "share of the run after which two neighbouring steps are smoothed; null is off", low=0, below=1
    )
    interpolator: str = setting(
        "learned",
        "what makes the frame between two: learned, flow, linear, a file of RIFE's weights, or none",
        flag="smooth",
    )
    hierarchical: bool | None = setting(
        None, f"key frames and clips in place of all frames at once; null chooses it above {LONG} frames"
    )
    group_norm: str = setting(
        "per_frame",
        "statistics of residual blocks: the image model's, or the official code's",
        choices=("per_frame", "pooled"),
    )

    def in_clips(self, frames: int) -> bool:
        """Whether key frames come first.

        Raises:
            UserError: settings that need all frames at once.
        """
        chosen = frames > LONG if self.hierarchical is None else self.hierarchical
        if chosen and self.group_norm == "pooled":
            raise UserError(
                "pooled group norms need all frames at once: set hierarchical to False, or group_norm per_frame"
            )
        if chosen and self.attention != "full":
            raise UserError(
                f"attention {self.attention!r}: key frames attend to each other fully; set hierarchical to False, "
                f"or attention full"
            )
        return chosen
