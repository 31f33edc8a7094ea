"""Positions: relative biases for attention over frames, and 3D rotary positions for spacetime tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def relative_offsets(num_frames: int, device: torch.device | None = None) -> Tensor:
    """j - i for all pairs of frames (row i, column j), [F, F]."""
    frame = torch.arange(num_frames, device=device)
    return frame[None, :] - frame[:, None]


def independent_frames(num_frames: int, mask: Tensor | None) -> Tensor:
    """Frames that see only themselves (independent images) and so have no place in time, bool [1 or B, F].

    Args:
        mask: bool [F, F] or [B, F, F], True where frame i may attend to frame j; None is a video, all of it seen.
    """
    if mask is None:
        return torch.full((1, num_frames), num_frames <= 1)
    return mask.sum(-1).reshape(-1, num_frames) <= 1


def t5_buckets(offset: Tensor, num_buckets: int = 32, max_distance: int = 32) -> Tensor:
    """T5's bidirectional buckets: exact for near frames, logarithmic for far ones.

        bucket(n) = n                                                        for n < e = h / 2, h = buckets / 2
        bucket(n) = min(e + floor((h - e) log(n / e) / log(d / e)), h - 1)   else

    and another h for offsets ahead. Source: 1910.10683 section 2.1, as in its code.

    Args:
        offset: j - i, any shape.
        max_distance: d, from which on all share the last bucket; at least e + 1, nearer offsets being exact anyway.
    """
    n = -offset
    half = num_buckets // 2
    base = (n < 0).long() * half
    n = n.abs()
    exact = half // 2
    scale = (half - exact) / math.log(max(max_distance, exact + 1) / exact)
    far = exact + (torch.log(n.clamp(min=1).float() / exact) * scale).floor().long()
    return base + torch.where(n < exact, n, far.clamp(max=half - 1))


class T5RelativeBias(nn.Module):
    """A learned scalar for each head and bucket of j - i, added to the logits; works for any number of frames."""

    def __init__(self, heads: int, num_buckets: int = 32, max_distance: int = 32):
        super().__init__()
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.bias = nn.Embedding(num_buckets, heads)
        nn.init.normal_(self.bias.weight, std=0.02)

    def forward(self, num_frames: int) -> Tensor:
        """[heads, F, F]."""
        offsets = relative_offsets(num_frames, self.bias.weight.device)
        return self.bias(t5_buckets(offsets, self.num_buckets, self.max_distance)).permute(2, 0, 1)


class ShawRelativePosition(nn.Module):
    """Learned vectors a^K and a^V for each clipped offset, added to keys and values.

        e_ij = q_i · (k_j + a^K_{clip(j - i)}) / sqrt(d),   z_i = Σ_j softmax(e_i)_j (v_j + a^V_{clip(j - i)})

    Source: 1803.02155 eqs. 3, 4.

    a^V lets a frame tell how many frames lie before and after it even where all frames look alike, as in pure noise;
    scalar biases on the logits cannot.
    """

    def __init__(self, head_dim: int, max_offset: int):
        super().__init__()
        self.max_offset = max_offset
        self.key = nn.Parameter(torch.randn(2 * max_offset + 1, head_dim) * head_dim**-0.5)
        self.value = nn.Parameter(torch.randn(2 * max_offset + 1, head_dim) * head_dim**-0.5)

    def _offsets(self, num_frames: int) -> Tensor:
        offsets = relative_offsets(num_frames, self.key.device)
        return offsets.clamp(-self.max_offset, self.max_offset) + self.max_offset

    def on_logits(self, q: Tensor) -> Tensor:
        """q_i . a^K_{j-i}, [N, heads, F, F] for queries [N, heads, F, d]."""
        keys = self.key[self._offsets(q.shape[2])]  # [F, F, d]
        by_frame = q.permute(2, 0, 1, 3).flatten(1, 2)  # [F, N heads, d]
        return (by_frame @ keys.transpose(1, 2)).unflatten(1, q.shape[:2]).permute(1, 2, 0, 3)

    def on_values(self, weights: Tensor) -> Tensor:
        """sum_j w_ij a^V_{j-i}, [N, heads, F, d] for attention weights [N, heads, F, F]."""
        values = self.value[self._offsets(weights.shape[2])]
        by_frame = weights.permute(2, 0, 1, 3).flatten(1, 2)
        return (by_frame @ values).unflatten(1, weights.shape[:2]).permute(1, 2, 0, 3)


def split_rotary_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of one head for t, h and w: about 1/4, 3/8, 3/8, all even (16/24/24 of 64, 4/6/6 of 16)."""
    if head_dim % 2 or head_dim < 6:
        raise ValueError(f"3D rotary positions need an even head width of at least 6, got {head_dim}")
    space = 2 * max(1, min(round(head_dim * 3 / 16), (head_dim - 2) // 4))  # time keeps at least two
    return head_dim - 2 * space, space, space


def rotary_angles(positions: Tensor, head_dim: int, theta: float = 10000.0) -> Tensor:
    """Rotation angles p_a θ^{-2k / d_a} of tokens at positions [..., 3] = (t, h, w), fractional ones too.

    Axis a has d_a channels of each head (`split_rotary_dims`). Source: 2104.09864 section 3.2.2, in three axes as
    2408.06072.
    """
    parts = []
    for axis, dim in enumerate(split_rotary_dims(head_dim)):
        k = torch.arange(dim // 2, dtype=torch.float32, device=positions.device)
        parts.append(positions[..., axis, None].float() * theta ** (-2 * k / dim))
    return torch.cat(parts, -1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate adjacent channel pairs (2k, 2k + 1) of x [..., N, head_dim] by angles θ [..., N, head_dim / 2].

        (x_2k, x_2k+1) <- (x_2k cos θ_k - x_2k+1 sin θ_k, x_2k sin θ_k + x_2k+1 cos θ_k)

    In float32 at least: in bf16 the product of two roundings moves a logit of 44 by .15.

    Source: 2104.09864 eq. 34; the pairing is CogVideoX's.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = angles.cos().to(wide), angles.sin().to(wide)
    even, odd = x[..., 0::2].to(wide), x[..., 1::2].to(wide)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def grid_positions(frames: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(t, h, w) of every token of a grid, w fastest, [N, 3]."""
    axes = [torch.arange(n, device=device) for n in (frames, height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
