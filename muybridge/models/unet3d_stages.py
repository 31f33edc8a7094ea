"""The stages of the factorised 3D U-Net: a residual block, and what mixes positions and frames after it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muybridge.nn.factorised import ResBlock, SpatialAttention, TemporalAttention
from muybridge.nn.spacetime_attention import SpacetimeAttention
from muybridge.nn.temporal_convolution import TemporalConvolution
from muybridge.nn.text_conditioning import Words


class Stage(nn.Module):
    """One residual block, then what mixes positions and frames: attention over space, attention or convolution over
    time, or one attention over both and the words."""

    def __init__(
        self,
        block: ResBlock,
        spatial: SpatialAttention | None = None,
        temporal: TemporalAttention | None = None,
        joint: SpacetimeAttention | None = None,
        convolution: TemporalConvolution | None = None,
    ):
        super().__init__()
        self.block, self.spatial, self.temporal, self.joint = block, spatial, temporal, joint
        self.convolution = convolution

    def forward(self, h: Tensor, embedding: Tensor, batch: int, mask: Tensor | None, words: Words | None) -> Tensor:
        h = self.block(h, embedding)
        if self.joint is not None:
            h = self.joint(h, batch, mask, words)
        if self.spatial is not None:
            h = self.spatial(h)
        if self.temporal is not None:
            h = self.temporal(h, batch, mask)
        if self.convolution is not None:
            h = self.convolution(h, embedding, batch, mask)
        return h


class Stages:
    """Makes the stages of a U-Net from its config: which widths, what resolution, what attention."""

    def __init__(self, config: Any):
        self.config = config
        self.widths = [config.base_channels * m for m in config.channel_multipliers]

    def block(self, channels: int, out: int, resample: str | None = None) -> ResBlock:
        c = self.config
        return ResBlock(
            channels, out, c.embedding_dim, c.norm_groups, c.dropout, resample, c.embedding_mode, c.sloped_shift,
            c.norm,
        )  # fmt: skip

    def at(self, level: int, channels: int) -> Stage:
        """A stage of a level, with attention where the config has it."""
        if self._size(level) in tuple(self.config.attention_resolutions):
            return self.attending(level, channels)
        out = self.widths[level]
        return Stage(self.block(channels, out), convolution=self._convolution(out))

    def attending(self, level: int, channels: int) -> Stage:
        c, out = self.config, self.widths[level]
        if self._size(level) in tuple(c.joint_resolutions):
            joint = SpacetimeAttention(out, c.attention_head_dim, c.norm_groups, c.text_token_dim)
            return Stage(self.block(channels, out), joint=joint)
        spatial = SpatialAttention(out, c.attention_head_dim, c.norm_groups) if c.spatial_attention else None
        temporal = None
        if c.temporal == "attention":
            temporal = TemporalAttention(out, c.attention_head_dim, c.norm_groups, c.position, c.max_frames)
        return Stage(self.block(channels, out), spatial, temporal, convolution=self._convolution(out))

    def _convolution(self, channels: int) -> TemporalConvolution | None:
        c = self.config
        if c.temporal != "convolution":
            return None
        return TemporalConvolution(channels, c.embedding_dim, c.norm_groups, c.norm)

    def _size(self, level: int) -> int:
        return int(self.config.sample_size // self.config.patch_size // 2**level)
