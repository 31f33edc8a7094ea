"""The one interface by which text reaches a network: pooled and token embeddings with a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TextCondition:
    """Embedded captions.

    Attributes:
        pooled: [B, E], or [B, K, E] with K captions a sample (a video and the images appended to it).
        tokens: [B, L, D] or [B, K, L, D].
        mask: bool [B, L] or [B, K, L], True for real tokens.
        dropped: bool [B] or [B, K], True where the condition is to be replaced by the null condition.
    """

    pooled: Tensor
    tokens: Tensor
    mask: Tensor
    dropped: Tensor | None = None

    def to(self, device: torch.device | str) -> TextCondition:
        dropped = None if self.dropped is None else self.dropped.to(device)
        return TextCondition(self.pooled.to(device), self.tokens.to(device), self.mask.to(device), dropped)

    def null(self) -> TextCondition:
        """The same shapes, every caption dropped: the unconditional branch of guidance."""
        shape = self.pooled.shape[:-1]
        return replace(self, dropped=torch.ones(shape, dtype=torch.bool, device=self.pooled.device))

    def rows(self, which: slice) -> TextCondition:
        """Some of the batch."""
        dropped = None if self.dropped is None else self.dropped[which]
        return TextCondition(self.pooled[which], self.tokens[which], self.mask[which], dropped)

    def repeated(self, times: int) -> TextCondition:
        """All tokens so many times over."""
        if times == 1:
            return self
        tokens = self.tokens.repeat(*[1] * (self.tokens.ndim - 2), times, 1)
        return replace(self, tokens=tokens, mask=self.mask.repeat(*[1] * (self.mask.ndim - 1), times))

    @staticmethod
    def stack(parts: Sequence[TextCondition]) -> TextCondition:
        """Several batches as one; captions dropped in a part stay dropped.

        Captions that were read in different numbers of pieces are repeated until they are as long as each other:
        attention to tokens that all stand there as often is what it is to them once.
        """
        length = math.lcm(*(p.tokens.shape[-2] for p in parts))
        parts = [p.repeated(length // p.tokens.shape[-2]) for p in parts]
        pooled, tokens, mask = (torch.cat([getattr(p, n) for p in parts]) for n in ("pooled", "tokens", "mask"))
        if all(p.dropped is None for p in parts):
            return TextCondition(pooled, tokens, mask)
        dropped = [p.mask.new_zeros(p.pooled.shape[:-1]) if p.dropped is None else p.dropped for p in parts]
        return TextCondition(pooled, tokens, mask, torch.cat(dropped))


@dataclass(frozen=True)
class Words:
    """The caption words that frames may attend to: one rule for all networks.

    A frame reads the words of its own caption. A dropped caption has no words; where a network cannot do without one it
    gives its null word, which then also stands for a caption without words, and for no caption at all.

    Attributes:
        tokens: [B, N, D], all captions of a sample in one row.
        allowed: bool [B, F or 1, N].
    """

    tokens: Tensor
    allowed: Tensor

    @classmethod
    def of(cls, text: TextCondition, frame_to_caption: Tensor | None, null: Tensor | None = None) -> Words:
        """
        Args:
            text: one caption a sample, or K.
            frame_to_caption: int64 [F], which of K captions each frame has; None lets every frame read all of them.
            null: the null word [1, 1, D], where the network has one.
        """
        tokens, mask = text.tokens, text.mask  # [B, (K,) L, D], [B, (K,) L]
        dropped = mask.new_zeros(mask.shape[:-1]) if text.dropped is None else text.dropped
        if null is None:
            mask = mask & ~dropped[..., None]
        else:
            absent = (dropped | ~mask.any(-1))[..., None]  # [B, (K,) 1]
            first = torch.arange(mask.shape[-1], device=mask.device) == 0
            tokens = torch.where(absent[..., None], null, tokens.to(null.dtype))
            mask = torch.where(absent, first, mask)
        if mask.ndim == 2:
            return cls(tokens, mask[:, None])
        allowed = mask[:, None]  # [B, 1, K, L]
        if frame_to_caption is not None:
            captions = torch.arange(mask.shape[1], device=mask.device)
            own = frame_to_caption.to(mask.device)[:, None] == captions  # [F, K]
            allowed = own[None, :, :, None] & allowed
        return cls(tokens.flatten(1, 2), allowed.flatten(2))

    @classmethod
    def none(cls, null: Tensor, batch: int) -> Words:
        """No caption: every frame reads the null word [1, 1, D]."""
        return cls(null.expand(batch, -1, -1), torch.ones(batch, 1, 1, dtype=torch.bool, device=null.device))

    def per_token(self, positions: int) -> Words:
        """The same for tokens of `positions` a frame: allowed [B, F positions or 1, N]."""
        if self.allowed.shape[1] == 1:
            return self
        return Words(self.tokens, self.allowed.repeat_interleave(positions, 1))


class TextPooling(nn.Module):
    """A caption as one vector: its pooled embedding plus learned queries attending over its tokens.

    VDM pools BERT's tokens by attention; the unconditional case is c := 0. Source: 2204.03458 section 4 and appendix A.

    Args:
        pooled_dim: width E of the pooled embedding, 0 to ignore it.
        token_dim: width D of token embeddings, 0 to ignore them.
        width: output width.
        queries: number of learned queries; each reads the tokens once per head.
    """

    def __init__(self, pooled_dim: int, token_dim: int, width: int, queries: int = 8, heads: int = 4):
        super().__init__()
        self.heads = heads
        # pooled embeddings come at any scale (unit length from MiniLM): bring them to unit variance
        self.from_pooled = nn.Sequential(nn.LayerNorm(pooled_dim), nn.Linear(pooled_dim, width)) if pooled_dim else None
        if token_dim:
            # sharp from the start: each head of each query looks at a few words, not at the mean of all
            self.query = nn.Parameter(3.0 * torch.randn(queries, token_dim))
            self.norm = nn.LayerNorm(token_dim)
            self.key_value = nn.Linear(token_dim, 2 * token_dim)
            self.out = nn.Linear(queries * token_dim, width)
        # one scale for all captions: without it the loudest word (a colour) grows until the others are not heard
        self.norm_out = nn.LayerNorm(width)
        self.token_dim = token_dim

    def forward(self, text: TextCondition) -> Tensor:
        """[B, width] (or [B, K, width]); zero where the caption is dropped."""
        lead = text.pooled.shape[:-1]
        vector = self._pool(text.tokens.flatten(0, -3), text.mask.flatten(0, -2)) if self.token_dim else None
        if self.from_pooled is not None:
            pooled = self.from_pooled(text.pooled.flatten(0, -2).to(self.norm_out.weight.dtype))
            vector = pooled if vector is None else vector + pooled
        if vector is None:
            raise ValueError("text pooling was built with neither pooled nor token embeddings")
        vector = self.norm_out(vector)
        if text.dropped is not None:
            vector = vector.masked_fill(text.dropped.flatten()[:, None], 0.0)
        return vector.reshape(*lead, -1)

    def _pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = self.norm(tokens.to(self.norm.weight.dtype))
        key, value = self.key_value(tokens).chunk(2, -1)
        rows = tokens.shape[0]

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

        query = split(self.query.expand(rows, -1, -1))
        # a caption without tokens must not make a row of -inf
        allowed = (mask | ~mask.any(-1, keepdim=True))[:, None, None, :]
        read = nn.functional.scaled_dot_product_attention(query, split(key), split(value), attn_mask=allowed)
        return self.out(read.transpose(1, 2).flatten(1))
