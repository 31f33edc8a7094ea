"""The blocks of a factorised 3D U-Net: 1 x 3 x 3 residual blocks, attention over space, attention over time.

Frames are folded into the batch: activations are [B F, C, H, W], so normalisation statistics never cross frames and no
convolution mixes them. Only `TemporalAttention` moves information between frames. Source: 2204.03458 section 3.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention, silu

from muybridge.nn.embeddings import init_after_silu, sinusoid
from muybridge.nn.position import ShawRelativePosition, T5RelativeBias

M = TypeVar("M", nn.Conv1d, nn.Conv2d, nn.Linear)


def per_frame_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """GroupNorm over one frame; the number of groups is reduced until it divides the channels."""
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=1e-6)


class ChannelNorm(nn.Module):
    """Each position's channels by their own root mean square, with a gain and a bias: no statistics over space or time.

        y = w x / sqrt(mean_c x² + ε) + b

    So a network of it and convolutions gives on a crop what it gives on the whole. Source: 1910.07467.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, ...]."""
        shape = (-1, *[1] * (x.ndim - 2))
        scale = torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)
        return x * scale * self.weight.reshape(shape) + self.bias.reshape(shape)


#: Normalisations of a block, by name: "frame" has statistics over the picture, "channel" over a position alone.
NORMS = ("frame", "channel")


def make_norm(kind: str, channels: int, groups: int) -> nn.Module:
    """A normalisation of activations [B F, C, H, W].

    Args:
        kind: one of NORMS.
        groups: of "frame".
    """
    if kind not in NORMS:
        raise ValueError(f"unknown norm {kind!r}; expected one of {', '.join(NORMS)}")
    return per_frame_norm(channels, groups) if kind == "frame" else ChannelNorm(channels)


def zero_init(module: M) -> M:
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def add_frames(x: Tensor, per_sample: Tensor) -> Tensor:
    """Shape an embedding [B, F or 1, D] to one row a folded frame, [B F, D]."""
    batch, frames = per_sample.shape[:2]
    if frames == 1:
        per_sample = per_sample.expand(batch, x.shape[0] // batch, -1)
    return per_sample.reshape(x.shape[0], -1)


def position_basis(height: int, width: int, like: Tensor) -> Tensor:
    """1, x and y of each position, [H W, 3]; x and y run from -1.5 to 1.5, so they have about unit variance."""
    x = torch.linspace(-1.5, 1.5, width, device=like.device, dtype=like.dtype).expand(height, width)
    y = torch.linspace(-1.5, 1.5, height, device=like.device, dtype=like.dtype)[:, None].expand(height, width)
    return torch.stack([torch.ones_like(x), x, y], -1).flatten(0, 1)


class ResBlock(nn.Module):
    """GroupNorm, swish, conv, embedding, GroupNorm, swish, dropout, conv (zero at start), plus the shortcut.

        h = conv_1(R(silu(norm_1(x)))),   out = shortcut(R(x)) + conv_2(drop(silu(norm_2(h) (1 + scale) + shift)))

    with R the resampling and (scale, shift) linear in the embedding. Source: the image U-Net of 2105.05233, section 3
    there.

    Args:
        resample: None, "down" (2x2 average pooling) or "up" (nearest), applied to both branches.
        embedding_mode: "scale_shift" (as in the authors' image U-Net) or "add" (as the paper's text says).
        sloped_shift: with "scale_shift", let the shift grow linearly across the picture, so that the embedding can say
            "more on the left" in one step instead of through layers of attention. Not in the paper.
        norm: of NORMS.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding_dim: int,
        groups: int,
        dropout: float = 0.0,
        resample: str | None = None,
        embedding_mode: str = "scale_shift",
        sloped_shift: bool = False,
        norm: str = "frame",
    ):
        super().__init__()
        if sloped_shift and embedding_mode != "scale_shift":
            raise ValueError(f"sloped_shift needs embedding_mode scale_shift, got {embedding_mode}")
        self.resample, self.embedding_mode = resample, embedding_mode
        self.norm1 = make_norm(norm, channels, groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.embed = init_after_silu(
            nn.Linear(embedding_dim, out_channels * (2 if embedding_mode == "scale_shift" else 1)), 0.5
        )
        self.slope = init_after_silu(nn.Linear(embedding_dim, 2 * out_channels), 0.5) if sloped_shift else None
        self.norm2 = make_norm(norm, out_channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def _resample(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return avg_pool2d(x, 2)
        return interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [B F, C, H, W], embedding [B, F or 1, D] (already through swish)."""
        h = self.conv1(self._resample(silu(self.norm1(x))))
        e = add_frames(h, self.embed(embedding))[:, :, None, None]
        if self.embedding_mode == "scale_shift":
            scale, shift = e.chunk(2, 1)
            if self.slope is not None:
                slopes = add_frames(h, self.slope(embedding)).unflatten(1, (2, -1))
                planes = torch.cat([shift.flatten(2).transpose(1, 2), slopes], 1)  # [B F, 3, C]
                shift = position_basis(h.shape[2], h.shape[3], h) @ planes
                shift = shift.unflatten(1, h.shape[2:]).permute(0, 3, 1, 2)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + e)
        h = self.conv2(self.dropout(silu(h)))
        return self.shortcut(self._resample(x)) + h


class SpatialAttention(nn.Module):
    """Self-attention over the H W positions of each frame: x + W_o softmax(Q Kᵀ / sqrt(d)) V, W_o zero at the start."""

    def __init__(self, channels: int, head_dim: int, groups: int):
        super().__init__()
        self.heads = count_heads(channels, head_dim)
        self.norm = per_frame_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        return x + self.proj(h).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each position, with relative positions and a mask for independent images.

        x + W_o softmax(Q Kᵀ / sqrt(d) + position + log mask) V,   W_o zero at the start

    Source: 2204.03458 section 3.

    Args:
        position: "t5" (a scalar for each head and bucket), "shaw" (vectors on keys and values), "sinusoidal" (the
            frame's index, added to the tokens) or "none".
        max_frames: the largest offset "shaw" tells apart, and the last bucket of "t5".
    """

    def __init__(self, channels: int, head_dim: int, groups: int, position: str = "t5", max_frames: int = 32):
        super().__init__()
        self.heads = count_heads(channels, head_dim)
        self.norm = per_frame_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = zero_init(nn.Linear(channels, channels))
        self.position: nn.Module | None
        if position == "t5":
            self.position = T5RelativeBias(self.heads, max_distance=max_frames)
        elif position == "shaw":
            self.position = ShawRelativePosition(channels // self.heads, max_frames - 1)
        elif position in ("none", "sinusoidal"):
            self.position = None
        else:
            raise ValueError(f"unknown temporal position {position!r}; expected t5, shaw, sinusoidal or none")
        self.absolute = position == "sinusoidal"

    def forward(self, x: Tensor, batch: int, mask: Tensor | None = None) -> Tensor:
        """x [B F, C, H, W]; mask bool [F, F] or [B, F, F], True where frame i may attend to frame j."""
        frames, (height, width) = x.shape[0] // batch, x.shape[2:]
        tokens = self.norm(x).permute(0, 2, 3, 1).unflatten(0, (batch, frames))  # [B, F, H, W, C]
        if self.absolute:
            index = torch.arange(frames, device=x.device)
            tokens = tokens + sinusoid(index, tokens.shape[-1]).to(tokens)[:, None, None]
        # 2 videos of 16 frames at 16x16, 512 channels in heads of 64: tokens [2, 16, 16, 16, 512]
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # [B, F, H, W, 3, heads, d] [2, 16, 16, 16, 3, 8, 64]
        q, k, v = qkv.permute(4, 0, 2, 3, 5, 1, 6).flatten(1, 3).unbind(0)  # each [B H W, heads, F, d] [512, 8, 16, 64]
        h = self._attend(q, k, v, batch, mask)
        h = h.unflatten(0, (batch, height, width)).permute(0, 4, 1, 2, 3, 5).flatten(4)  # [B, F, H, W, C]
        return x + self.proj(h).flatten(0, 1).permute(0, 3, 1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, batch: int, mask: Tensor | None) -> Tensor:
        # plain matrix products: for a dozen frames they beat the fused kernels, and Shaw's terms need the weights
        frames = q.shape[2]
        q = q * q.shape[-1] ** -0.5
        logits = q @ k.transpose(-1, -2)  # [B H W, heads, F, F] [512, 8, 16, 16]
        if isinstance(self.position, T5RelativeBias):
            logits = logits + self.position(frames)
        elif isinstance(self.position, ShawRelativePosition):
            logits = logits + self.position.on_logits(q)
        if mask is not None:
            by_sample = logits.unflatten(
                0, (batch, -1)
            )  # [B, H W, heads, F, F]: one mask for all positions, not a copy each
            allowed = mask.expand(batch, frames, frames)[:, None, None]
            logits = by_sample.masked_fill(~allowed, float("-inf")).flatten(0, 1)
        weights = logits.softmax(-1)
        out = weights @ v
        return out + self.position.on_values(weights) if isinstance(self.position, ShawRelativePosition) else out


def count_heads(channels: int, head_dim: int) -> int:
    if channels % head_dim:
        raise ValueError(f"attention head width {head_dim} does not divide {channels} channels")
    return channels // head_dim
