"""Gen-1's temporal layers as a plug-in: a convolution over time behind each spatial one, attention behind each
attention.

Source: 2302.03011 section 3.1. Both are residual and start as the identity (the paper does not say how they start).
Images pass as if the layers were not there, which makes joint training and the guidance over time possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from muybridge.nn.factorised import zero_init
from muybridge.nn.sites import Site
from muybridge.nn.temporal import Call, TemporalPlugin
from muybridge.nn.temporal_convolution import FrameConvolution


class _Attended(nn.Module):
    """Attention over frames with learned positions, and a feed-forward; the identity at the start."""

    def __init__(self, channels: int, heads: int, max_frames: int):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(max_frames, channels) * 0.02)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = Attention(channels, heads=heads, dim_head=channels // heads)
        self.ff = FeedForward(channels, mult=2, activation_fn="geglu")
        zero_init(self.attn.to_out[0])
        zero_init(self.ff.net[2])

    def forward(self, h: Tensor) -> Tensor:
        """[B N, F, C] -> the same."""
        h = h + self.attn(self.norm1(h) + self.positions[: h.shape[1]])
        out: Tensor = h + self.ff(self.norm2(h))
        return out


class Gen1Layers(TemporalPlugin):
    """Temporal layers of Gen-1; everything trains, the picture network too.

    Args:
        max_frames: positions that are learned; longer videos go in windows.
    """

    def __init__(self, image: Mapping[str, Any], sites: Sequence[Site], max_frames: int = 8):
        super().__init__()
        self.max_frames = max_frames
        self.convolutions = nn.ModuleDict(
            {s.key: zero_init(FrameConvolution(s.channels)) for s in sites if s.kind == "convolution"}
        )
        self.attentions = nn.ModuleDict(
            {s.key: _Attended(s.channels, s.heads, max_frames) for s in sites if s.kind == "block"}
        )

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [s for s in sites if s.kind in ("convolution", "block")]

    def begin(self, z: Tensor, call: Call) -> None:
        if call.frames > self.max_frames and not call.images_only:
            raise ValueError(f"{call.frames} frames, but {self.max_frames} positions were learned: use windows")

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        if key in self.convolutions:
            convolved: Tensor = self.convolutions[key].along_frames(x, call.videos)  # type: ignore[operator]
            return x + convolved
        rows = x.unflatten(0, (call.videos, -1)).transpose(1, 2)  # [B, N, F, C]
        done: Tensor = self.attentions[key](rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return done.transpose(1, 2).flatten(0, 1)

    def trainable(self, name: str) -> bool:
        return True
