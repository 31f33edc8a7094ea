"""Attention over all frames, all positions and the words at once, for the low resolutions of a U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from muybridge.nn.factorised import count_heads, per_frame_norm, zero_init
from muybridge.nn.position import grid_positions, independent_frames, rotary_angles, rotate
from muybridge.nn.text_conditioning import Words

#: Base of the rotary frequencies: grids here have a dozen steps a side, not thousands.
THETA = 100.0


class SpacetimeAttention(nn.Module):
    """Self-attention over the F H W tokens of a video and over its caption's words, with 3D rotary positions.

    A thing that moves changes its place from frame to frame; attention at one place over time loses it, this does not.
    Between frames only offsets matter; words have no position, so a frame reads them by its own place in time and
    space.

        x + W_o softmax([R(Q) R(K)ᵀ, R(Q) K_wᵀ] / sqrt(d) + log allowed) [V; V_w]

    with R the rotation and W_o zero at the start.

    Args:
        token_dim: width of the words' embeddings, 0 for none.
    """

    def __init__(self, channels: int, head_dim: int, groups: int, token_dim: int = 0):
        super().__init__()
        self.heads = count_heads(channels, head_dim)
        self.norm = per_frame_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = zero_init(nn.Linear(channels, channels))
        self.words = nn.Sequential(nn.LayerNorm(token_dim), nn.Linear(token_dim, 2 * channels)) if token_dim else None

    def forward(self, x: Tensor, batch: int, mask: Tensor | None = None, words: Words | None = None) -> Tensor:
        """x [B F, C, H, W]; mask bool [F, F] or [B, F, F], True where frame i may attend to frame j."""
        frames, (height, width) = x.shape[0] // batch, x.shape[2:]
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(batch, frames * height * width, -1)  # [B, N, C]
        q, k, v = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )  # [B, heads, N, d]
        angles = rotary_angles(_positions(frames, height, width, mask, x.device), q.shape[-1], THETA)[:, None]
        q, k = rotate(q, angles), rotate(k, angles)
        if self.words is None:
            words = None
        if self.words is not None and words is not None:
            pair = self.words(words.tokens.to(x.dtype)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([k, pair[0]], 2), torch.cat([v, pair[1]], 2)  # [B, heads, N + L, d]
        allowed = _who_reads_what(batch, frames, height * width, mask, words)
        h = scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        h = self.proj(h).unflatten(1, (frames, height, width)).flatten(0, 1)
        return x + h.permute(0, 3, 1, 2)


def _who_reads_what(batch: int, frames: int, positions: int, mask: Tensor | None, words: Words | None) -> Tensor | None:
    """bool [B, 1, 1 or N, N (+ L)]: which tokens, and behind them which words, each token may attend to; None for
    all."""
    if mask is None and words is None:
        return None
    if mask is None:
        assert words is not None
        seen = words.allowed.new_ones(batch, 1, frames * positions)
    else:
        seen = mask.expand(batch, frames, frames).repeat_interleave(positions, 2)  # [B, F, N]
    if words is not None:
        rows = max(seen.shape[1], words.allowed.shape[1])
        seen = torch.cat([seen.expand(-1, rows, -1), words.allowed.expand(batch, rows, -1)], 2)
    if seen.shape[1] > 1:  # a row a frame: one for each of its tokens
        seen = seen.repeat_interleave(positions, 1)
    return seen[:, None]


def _positions(frames: int, height: int, width: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """(t, h, w) of every token, [1 or B, N, 3]; t is 0 in frames that have no place in time."""
    positions = grid_positions(frames, height, width, device)[None]
    independent = independent_frames(frames, mask).to(device).repeat_interleave(height * width, 1)
    time = positions[..., 0].masked_fill(independent, 0)
    return torch.cat([time[..., None], positions[..., 1:].expand(len(time), -1, -1)], -1)
