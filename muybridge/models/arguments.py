"""What the arguments of this project's networks may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from muybridge.configuration import Setting
from muybridge.diffusion.prediction import PredictionType
from muybridge.errors import UserError
from muybridge.nn.factorised import NORMS
from muybridge.nn.temporal_convolution import PADDINGS, STARTS
from muybridge.nn.transformer_blocks import WHOLE_ENDS

#: Ranges of the arguments that are numbers or names; networks call the same thing by the same name.
ARGUMENTS: dict[str, Setting] = {
    **dict.fromkeys(("in_channels", "out_channels"), Setting(low=1, high=4096)),
    **dict.fromkeys(("condition_channels", "text_pooled_dim", "text_token_dim"), Setting(low=0, high=65536)),
    **dict.fromkeys(("base_channels", "width", "hidden", "embedding_dim"), Setting(low=1, high=65536)),
    **dict.fromkeys(("picture_dim", "text_dim", "token_dim"), Setting(low=1, high=65536)),
    "tokens": Setting(low=1, high=4096),
    **dict.fromkeys(("heads", "attention_head_dim", "norm_groups"), Setting(low=1, high=4096)),
    **dict.fromkeys(("layers", "blocks_per_level", "embedding_layers"), Setting(low=1, high=1024)),
    **dict.fromkeys(("attention_resolutions", "joint_resolutions"), Setting(low=1, high=8192)),
    "channel_multipliers": Setting(low=1, high=1024, fewest=1),
    "sample_size": Setting(low=1, high=8192),
    **dict.fromkeys(("scalar_channels", "context_channels", "known_channels", "window"), Setting(low=0, high=65536)),
    **dict.fromkeys(("spacetime_levels", "temporal_every", "levels"), Setting(low=0, high=64)),
    **dict.fromkeys(("eps", "outer_eps"), Setting(low=0, high=1)),
    "padding": Setting(choices=PADDINGS),
    "resampling": Setting(choices=STARTS),
    "kernel": Setting(low=1, high=63),
    "mix": Setting(low=-100, high=100),
    "groups": Setting(low=1, high=4096),
    "group_norm": Setting(choices=("per_frame", "pooled")),
    "norm": Setting(choices=NORMS),
    "text_mode": Setting(choices=("cross", "joint")),
    "modulation": Setting(choices=("block", "single")),
    "temporal": Setting(choices=("attention", "convolution")),
    "patch_size": Setting(low=1, high=64),
    "max_frames": Setting(low=1, high=100_000),
    "time_compression": Setting(choices=(1, 2, 4, 8, 16)),  # type: ignore[arg-type]
    "time_kernel": Setting(low=1, high=16),
    "mlp_ratio": Setting(above=0, high=64),
    "num_classes": Setting(low=0, high=10**6),
    "dropout": Setting(low=0, below=1),
    "prediction_type": Setting(choices=get_args(PredictionType)),
}


def check_arguments(settings: Mapping[str, Any]) -> None:
    """Refuse arguments out of range, and those that nothing would read, before a network is made of them.

    Raises:
        UserError: says what is allowed.
    """
    for name, value in settings.items():
        ARGUMENTS.get(name, Setting()).check(value, f"model.{name}")
    if settings.get("text_mode") == "joint" and not settings.get("text_token_dim"):
        raise UserError("model.text_mode joint: the network reads no words; give text_token_dim, or leave it out")
    layers = settings.get("layers", 2 * WHOLE_ENDS + 1)
    if settings.get("attention") == "skiparse" and layers <= 2 * WHOLE_ENDS:
        raise UserError(
            f"model.attention skiparse: the first and last {WHOLE_ENDS} blocks see all, and of {layers} layers none is "
            f"left that skips; give at least {2 * WHOLE_ENDS + 1}, or take attention joint"
        )
