"""Tune-A-Video's attention as a temporal plug-in: frames look at the first and the one before, then along time.

Source: 2212.11565 section 3.2; order and names of the layers as in its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from muybridge.nn.factorised import zero_init
from muybridge.nn.frame_attention import FrameAttention, key_frames, set_frame_attention
from muybridge.nn.frame_norm import PooledGroupNorm, pooled_norms
from muybridge.nn.sites import Site
from muybridge.nn.temporal import Call, TemporalPlugin


class TuneAVideoLayers(TemporalPlugin):
    """Attention over frames behind every transformer block, and self-attention turned into attention to two frames.

    The queries of both spatial attentions train, and the temporal attention; its layer norm does not (as in the code,
    whose rule is by name). Differs from the code: the output projection's bias starts at zero too, so that the start is
    exact.

    Args:
        group_norm: "per_frame", or "pooled" over the clip in residual blocks as in the official code.
    """

    def __init__(self, image: Mapping[str, Any], sites: Sequence[Site], group_norm: str = "per_frame"):
        super().__init__()
        if group_norm not in ("per_frame", "pooled"):
            raise ValueError(f"group_norm must be per_frame or pooled, got {group_norm!r}")
        self.norm_temp = nn.ModuleDict({s.key: nn.LayerNorm(s.channels) for s in sites})
        self.attn_temp = nn.ModuleDict(
            {s.key: Attention(s.channels, heads=s.heads, dim_head=s.channels // s.heads) for s in sites}
        )
        for layer in self.attn_temp.values():
            assert isinstance(layer, Attention)
            to_out = layer.to_out[0]
            assert isinstance(to_out, nn.Linear)
            zero_init(to_out)
        self.pooled, self.attention = group_norm == "pooled", FrameAttention()
        self.norms: list[PooledGroupNorm] = []

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [s for s in sites if s.kind == "block"]

    def prepare_image(self, image: nn.Module) -> None:
        set_frame_attention(image, self.attention)
        # not registered as modules of the plug-in: they belong to the picture network
        object.__setattr__(self, "norms", pooled_norms(image) if self.pooled else [])

    def enter(self, call: Call | None) -> None:
        frames = 1 if call is None or call.images_only else call.frames
        self.attention.keys = None if frames == 1 else key_frames("first_previous", frames)
        for norm in self.norms:
            norm.frames = frames

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        places = x.unflatten(0, (-1, call.frames)).transpose(1, 2)  # [B, N, F, C]
        h = places.flatten(0, 1)
        h = h + self.attn_temp[key](self.norm_temp[key](h))
        return h.unflatten(0, places.shape[:2]).transpose(1, 2).flatten(0, 1)

    def trainable(self, name: str) -> bool:
        if name.startswith("temporal."):
            return ".attn_temp." in name
        return name.endswith(("attn1.to_q.weight", "attn2.to_q.weight"))
