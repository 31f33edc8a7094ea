"""Blocks of a diffusion transformer: modulated attention and MLP, with residual gates that start at zero (adaLN-Zero).

Tokens are [B, N, D] in rows (nn.token_rows); conditions are [B, K, D], one for all tokens, or one a frame, a sample and
its words.
Source: 2212.09748 (DiT); qk-norm 2302.05442; rotary positions in three axes and words with modulations of their own as
in 2408.06072; one modulation for all blocks 2310.00426 (adaLN-single).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from muybridge.nn.position import rotate
from muybridge.nn.text_conditioning import Words
from muybridge.nn.token_rows import TokenRow, gather_skipping

#: Who attends to whom in a block: all tokens of a sample; each frame, then along time; only one of the two; every k'th
#: token, or runs of k ("skip", "skip_runs").
PATTERNS = ("joint", "factorised", "spatial", "temporal", "skip", "skip_runs")
#: k of "skip": 4 in 2412.00131.
SKIP = 4

#: Attention over tokens, and the patterns of its blocks: of one frame and then along time in every block (Open-Sora's
#: STDiT), of frames and of time in turn (Latte), every fourth token in two ways in turn (Open-Sora Plan's Skiparse, the
#: first and last two blocks seeing all).
ATTENTIONS: dict[str, Sequence[str]] = {
    "joint": ("joint",),
    "factorised": ("factorised",),
    "alternating": ("spatial", "temporal"),
    "skiparse": ("skip", "skip_runs"),
}
WHOLE_ENDS = 2


def patterns_of(attention: str, layers: int) -> list[str]:
    """The pattern of each block."""
    turn = ATTENTIONS[attention]
    out = [turn[i % len(turn)] for i in range(layers)]
    if attention == "skiparse":
        out = ["joint" if min(i, layers - 1 - i) < WHOLE_ENDS else pattern for i, pattern in enumerate(out)]
    return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, for x [B, N, D] and shift, scale [B, 1 or N, D] (adaLN).

    Source: 2212.09748 section 3.2.
    """
    return torch.addcmul(shift, x, 1 + scale) if shift.shape == x.shape else x * (1 + scale) + shift


def runs_of(spans: Sequence[slice], masks: Sequence[Tensor | None]) -> list[slice]:
    """Neighbouring spans of one length with masks of one shape: small samples of a pack go through the kernel at
    once."""
    keys = [(s.stop and s.stop - s.start, None if m is None else m.shape) for s, m in zip(spans, masks, strict=True)]
    starts = [i for i, key in enumerate(keys) if not i or key != keys[i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(keys)], strict=True)]


def attend_alike(q: Tensor, k: Tensor, v: Tensor, spans: Sequence[slice], masks: Sequence[Tensor | None]) -> Tensor:
    """Attention within each of neighbouring spans of one length n, q, k, v [B, heads, N, d]; masks of several spans are
    a pack's, [1, ...] each."""
    batch, place = len(q), slice(spans[0].start, spans[-1].stop)
    given = [m for m in masks if m is not None]
    mask = None if not given else given[0] if len(given) == 1 else torch.cat(given)
    # [B, heads, S n, d] -> [B S, heads, n, d]
    rows = [t[:, :, place].unflatten(2, (len(spans), -1)).transpose(1, 2).flatten(0, 1) for t in (q, k, v)]
    h = scaled_dot_product_attention(rows[0], rows[1], rows[2], attn_mask=mask)
    return h.unflatten(0, (batch, len(spans))).transpose(1, 2).flatten(2, 3)


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

    def forward(
        self, x: Tensor, angles: Tensor | None, mask: Tensor | None = None, spans: Sequence[slice] = ()
    ) -> Tensor:
        """x [R, N, D]; angles [N, head_dim / 2] or [R, 1, N, head_dim / 2]; mask bool, broadcastable to [R, 1, N, N].

        Args:
            spans: stretches of the row that attend to themselves alone; none is all of it.
        """
        masks = [mask] * max(1, len(spans))
        return self.attend(x, angles, masks, spans or [slice(None)])

    def attend(
        self, x: Tensor, angles: Tensor | None, masks: Sequence[Tensor | None], spans: Sequence[slice]
    ) -> Tensor:
        """The same with a mask for each span."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.norm_q(q), self.norm_k(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        parts = [attend_alike(q, k, v, spans[run], masks[run]) for run in runs_of(spans, masks)]
        h = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
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
    """One DiT block.

        x <- x + g_1 Attn(LN(x) (1 + s_1) + b_1)
        x <- x + Time(LN(x))                          (factorised)
        x <- x + Cross(LN(x), words)                  (with words by cross-attention)
        x <- x + g_2 MLP(LN(x) (1 + s_2) + b_2)

    with (b_1, s_1, g_1, b_2, s_2, g_2) linear in silu(condition), zero at the start. Source: 2212.09748 section 3.2
    (adaLN-Zero). The temporal and cross attention are not modulated; their projections start at zero, so that a
    factorised model starts as the image model of each frame. Words in the sequence have a linear map of their own from
    the condition, and share the rest (2408.06072 section 2.2, "expert" adaLN).

    Args:
        pattern: of PATTERNS; True is "factorised", False "joint".
        text_width: of words that are read by cross-attention, 0 for none.
        own_words: words are in the sequence.
        single: the six are one linear map for all blocks, made outside, plus a table of this block's own.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        qk_norm: bool,
        pattern: str | bool,
        text_width: int,
        own_words: bool = False,
        single: bool = False,
    ):
        super().__init__()
        self.pattern = pattern if isinstance(pattern, str) else ("factorised" if pattern else "joint")
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = TokenAttention(width, heads, qk_norm)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = None if single else nn.Linear(width, 6 * width)
        self.word_modulation = nn.Linear(width, 6 * width) if own_words and not single else None
        self.table = nn.Parameter(torch.randn(6 * width) / width**0.5) if single else None
        self.time_attention = TokenAttention(width, heads, qk_norm) if self.pattern == "factorised" else None
        self.cross = TextCrossAttention(width, heads, text_width) if text_width else None

    def forward(self, x: Tensor, condition: Tensor, row: TokenRow, words: Words | None = None) -> Tensor:
        """x [B, N, D]; condition [B, K, D], or with `single` [B, K, 6 D]; words as the tokens read them."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self._modulations(condition, row)
        x = x + gate1 * self._self_attention(modulate(self.norm1(x), shift1, scale1), row)
        if self.time_attention is not None:
            inner = self.norm1(x)
            x = x + torch.cat([self._along_time(self.time_attention, inner, row, s) for s in range(len(row.grids))], 1)
        if self.cross is not None and words is not None:
            x = x + self._read(self.norm1(x), row, words)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))

    def _modulations(self, condition: Tensor, row: TokenRow) -> Sequence[Tensor]:
        """Six of [B, 1 or N, D]: the linear maps see K conditions, not N tokens."""
        if self.table is not None:
            return row.given_to(condition + self.table).chunk(6, -1)
        assert self.modulation is not None
        heard = silu(condition)
        six = self.modulation(heard[:, : row.video_conditions])
        if self.word_modulation is not None:
            six = torch.cat([six, self.word_modulation(heard[:, row.video_conditions :])], 1)
        return row.given_to(six).chunk(6, -1)

    def _self_attention(self, x: Tensor, row: TokenRow) -> Tensor:
        if self.pattern == "joint":
            return self.attention.attend(x, row.angles, row.masks, row.spans)
        ways: dict[str, Callable[[TokenAttention, Tensor, TokenRow, int], Tensor]] = {
            "factorised": self._within_frames, "spatial": self._within_frames, "temporal": self._along_time,
            "skip": self._skipping, "skip_runs": self._skipping,
        }  # fmt: skip
        return torch.cat([ways[self.pattern](self.attention, x, row, s) for s in range(len(row.grids))], 1)

    def _within_frames(self, attention: TokenAttention, x: Tensor, row: TokenRow, sample: int) -> Tensor:
        """Each frame of a sample by itself."""
        frames, angles = row.grids[sample][0], row.angles_of(sample)
        x = x[:, row.spans[sample]]
        positions = x.shape[1] // frames
        rows = x.unflatten(1, (frames, positions)).flatten(0, 1)
        spatial = None if angles is None else angles[:positions]  # frame 0: only differences within a frame matter
        return attention(rows, spatial).unflatten(0, (-1, frames)).flatten(1, 2)

    def _along_time(self, attention: TokenAttention, x: Tensor, row: TokenRow, sample: int) -> Tensor:
        """Each place of a sample by itself, over its frames."""
        frames, angles, mask = row.grids[sample][0], row.angles_of(sample), row.mask
        x = x[:, row.spans[sample]]
        batch, positions = x.shape[0], x.shape[1] // frames
        rows = x.unflatten(1, (frames, positions)).transpose(1, 2).flatten(0, 1)
        temporal = None if angles is None else angles[::positions]  # position (t, 0, 0)
        if mask is not None:
            mask = mask.expand(batch, frames, frames).repeat_interleave(positions, 0)[:, None]
        h = attention(rows, temporal, mask)
        return h.unflatten(0, (batch, positions)).transpose(1, 2).flatten(1, 2)

    def _skipping(self, attention: TokenAttention, x: Tensor, row: TokenRow, sample: int) -> Tensor:
        """Sequences of every k'th token, or of runs of k, of a sample."""
        x, angles = x[:, row.spans[sample]], row.angles_of(sample)
        batch, tokens = x.shape[:2]
        places, there = gather_skipping(tokens, SKIP, self.pattern == "skip_runs", x.device)  # [k, n]
        turned = None if angles is None else angles[places].repeat(batch, 1, 1)[:, None]  # [B k, 1, n, d / 2]
        # padding repeats the last token and is no key; a sequence of nothing else attends to itself, and is dropped
        mask = (there | ~there.any(1, keepdim=True)).repeat(batch, 1)[:, None, None]
        h = attention(x[:, places].flatten(0, 1), turned, mask).unflatten(0, (batch, -1))
        out = torch.empty_like(x)
        out[:, places[there]] = h[:, there].to(x.dtype)
        return out

    def _read(self, x: Tensor, row: TokenRow, words: Words) -> Tensor:
        assert self.cross is not None
        if len(row.grids) == 1:
            return self.cross(x, words)
        parts = []
        for run in runs_of(row.spans, [None] * len(row.spans)):  # a pack's words are [S, L, D], as its samples are here
            spans = row.spans[run]
            samples = x[0, spans[0].start : spans[-1].stop].unflatten(0, (len(spans), -1))
            read = self.cross(samples, Words(words.tokens[run], words.allowed[run]))
            parts.append(read.flatten(0, 1))
        return torch.cat(parts)[None]


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
