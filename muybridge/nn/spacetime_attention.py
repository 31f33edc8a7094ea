"""Attention over all frames, all positions and the words at once, for the low resolutions of a U-Net."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from muybridge.nn.factorised import count_heads, per_frame_norm, zero_init
from muybridge.nn.position import frames_alone, grid_positions, rotary_angles, rotate
from muybridge.nn.text_conditioning import TextCondition

#: Base of the rotary frequencies: grids here have a dozen steps a side, not thousands.
THETA = 100.0


@dataclass(frozen=True)
class Words:
    """The words that frames may attend to.

    Attributes:
        tokens: [B, N, D].
        allowed: bool [B, F or 1, N].
    """

    tokens: Tensor
    allowed: Tensor

    @classmethod
    def of(cls, text: TextCondition, frame_to_caption: Tensor | None) -> Words:
        """All captions of a sample in one row; each frame may read its own, and none that is dropped."""
        tokens, mask = text.tokens, text.mask
        if text.dropped is not None:
            mask = mask & ~text.dropped[..., None]
        if mask.ndim == 2:
            return cls(tokens, mask[:, None])
        captions = mask.shape[1]
        if frame_to_caption is None:
            return cls(tokens.flatten(1, 2), mask.flatten(1)[:, None])
        own = frame_to_caption[:, None] == torch.arange(captions, device=mask.device)  # [F, K]
        allowed = own[None, :, :, None] & mask[:, None]
        return cls(tokens.flatten(1, 2), allowed.flatten(2))


class SpacetimeAttention(nn.Module):
    """Self-attention over the F H W tokens of a video and over its caption's words, with 3D rotary positions.

    A thing that moves changes its place from frame to frame; attention at one place over time loses it, this does not.
    Between frames only offsets matter; words have no position, so a frame reads them by its own place in time and space.

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
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(batch, frames * height * width, -1)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        angles = rotary_angles(self._positions(frames, height, width, mask, x.device), q.shape[-1], THETA)[:, None]
        q, k = rotate(q, angles), rotate(k, angles)
        allowed = None
        if mask is not None:
            allowed = mask.expand(batch, frames, frames).repeat_interleave(height * width, 2)
        if self.words is not None and words is not None:
            pair = self.words(words.tokens.to(x.dtype)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            k, v = torch.cat([k, pair[0]], 2), torch.cat([v, pair[1]], 2)
            if allowed is None:
                allowed = words.allowed.new_ones(batch, 1, tokens.shape[1])
            rows = max(allowed.shape[1], words.allowed.shape[1])
            allowed = torch.cat([allowed.expand(-1, rows, -1), words.allowed.expand(batch, rows, -1)], 2)
        if allowed is not None:  # one row for all queries, or one a frame
            if allowed.shape[1] > 1:
                allowed = allowed.repeat_interleave(height * width, 1)
            allowed = allowed[:, None]
        h = scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        h = self.proj(h).unflatten(1, (frames, height, width)).flatten(0, 1)
        return x + h.permute(0, 3, 1, 2)

    @staticmethod
    def _positions(frames: int, height: int, width: int, mask: Tensor | None, device: torch.device) -> Tensor:
        """(t, h, w) of every token, [1 or B, F H W, 3]; t is 0 in frames that have no place in time."""
        positions = grid_positions(frames, height, width, device)[None]
        alone = frames_alone(frames, mask).to(device).repeat_interleave(height * width, 1)
        time = positions[..., 0].masked_fill(alone, 0)
        return torch.cat([time[..., None], positions[..., 1:].expand(len(time), -1, -1)], -1)
