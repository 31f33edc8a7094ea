"""Blocks of a diffusion transformer: modulated attention and MLP, with residual gates that start at zero (adaLN-Zero).

Tokens are [B, N, D], ordered (t, h, w) with w fastest; modulations are [B, 1, D], or [B, N, D] for a noise level per
frame.
Source: 2212.09748 (DiT); qk-norm 2302.05442; rotary positions in three axes as in 2408.06072.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from muybridge.nn.position import rotate
from muybridge.nn.text_conditioning import Words


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, for x [B, N, D] and shift, scale [B, 1 or N, D] (adaLN).

    Source: 2212.09748 section 3.2.
    """
    return torch.addcmul(shift, x, 1 + scale) if shift.shape == x.shape else x * (1 + scale) + shift


class TokenAttention(nn.Module):
    """Self-attention over tokens, with optional normalised queries and keys and rotary positions.

        softmax(R(q̂) R(k̂)ᵀ / sqrt(d)) V

    qk-norm comes before the rotation and bounds each logit by sqrt(d) |γ_q| |γ_k|. Source: 2302.05442 section 2.1.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        head_dim = width // heads
        self.norm_q = nn.RMSNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, angles: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """x [R, N, D]; angles [N, head_dim / 2] or [R, 1, N, head_dim / 2]; mask bool, broadcastable to [R, 1, N,
        N]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.norm_q(q), self.norm_k(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        h = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(h.transpose(1, 2).flatten(2))


class TextCrossAttention(nn.Module):
    """Tokens read the caption; the output projection starts at zero."""

    def __init__(self, width: int, heads: int, text_width: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, words: Words) -> Tensor:
        """x [B, N, D], words [B, L, text_width], allowed to [B, 1 or N] tokens."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, d]
        k, v = self.kv(words.tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        h = scaled_dot_product_attention(q, k, v, attn_mask=words.allowed[:, None])
        return self.proj(h.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """One DiT block; "joint" attends over all tokens, "factorised" within each frame and then along time.

        x <- x + g_1 Attn(LN(x) (1 + s_1) + b_1)
        x <- x + Time(LN(x))                          (factorised)
        x <- x + Cross(LN(x), words)                  (with words)
        x <- x + g_2 MLP(LN(x) (1 + s_2) + b_2)

    with (b_1, s_1, g_1, b_2, s_2, g_2) linear in silu(condition), zero at the start. Source: 2212.09748 section 3.2
    (adaLN-Zero). The temporal and cross attention are not modulated; their projections start at zero, so that a
    factorised model starts as the image model of each frame.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, qk_norm: bool, factorised: bool, text_width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = TokenAttention(width, heads, qk_norm)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.time_attention = TokenAttention(width, heads, qk_norm) if factorised else None
        self.cross = TextCrossAttention(width, heads, text_width) if text_width else None

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        frames: int,
        angles: Tensor | None,
        mask: Tensor | None,
        words: Words | None,
    ) -> Tensor:
        """x [B, N, D]; condition [B, 1 or N, D]; mask bool [B or 1, F, F] over frames, or None; words as each token
        reads them."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(silu(condition)).chunk(6, -1)
        inner = modulate(self.norm1(x), shift1, scale1)
        x = x + gate1 * self._self_attention(inner, frames, angles, mask)
        if self.time_attention is not None:
            x = x + self._along_time(self.norm1(x), frames, angles, mask)
        if self.cross is not None and words is not None:
            x = x + self.cross(self.norm1(x), words)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))

    def _self_attention(self, x: Tensor, frames: int, angles: Tensor | None, mask: Tensor | None) -> Tensor:
        positions = x.shape[1] // frames
        if self.time_attention is None:
            if mask is not None:  # from frames to tokens
                mask = mask.repeat_interleave(positions, 1).repeat_interleave(positions, 2)[:, None]
            return self.attention(x, angles, mask)
        rows = x.unflatten(1, (frames, positions)).flatten(0, 1)
        spatial = None if angles is None else angles[:positions]  # frame 0: only differences within a frame matter
        return self.attention(rows, spatial).unflatten(0, (-1, frames)).flatten(1, 2)

    def _along_time(self, x: Tensor, frames: int, angles: Tensor | None, mask: Tensor | None) -> Tensor:
        assert self.time_attention is not None
        batch, positions = x.shape[0], x.shape[1] // frames
        rows = x.unflatten(1, (frames, positions)).transpose(1, 2).flatten(0, 1)
        temporal = None if angles is None else angles[::positions]  # position (t, 0, 0)
        if mask is not None:
            mask = mask.expand(batch, frames, frames).repeat_interleave(positions, 0)[:, None]
        h = self.time_attention(rows, temporal, mask)
        return h.unflatten(0, (batch, positions)).transpose(1, 2).flatten(1, 2)


def init_transformer(module: nn.Module, zero: Callable[[str], bool]) -> None:
    """Xavier-uniform linears with zero biases; `zero(name)` says which linears start at zero."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            if zero(name):
                nn.init.zeros_(layer.weight)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
