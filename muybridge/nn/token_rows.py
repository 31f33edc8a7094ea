"""How the tokens of a row belong together: one video, or a pack of videos and pictures that do not see each other.

A row holds its samples one after another, of each first its words (where they are in one sequence with the video), then
its patches, ordered (t, h, w) with w fastest. B rows are a batch of one pattern; a pack is one row. Attention goes
sample by sample, which is block-diagonal attention without computing what the blocks leave out: no mask over the whole
row, no padding, and the kernel is the usual one.
Source: 2307.06304 (NaViT, "Patch n' Pack").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from muybridge.nn.position import grid_positions

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class TokenRow:
    """The pattern of a row [B, N, D].

    Attributes:
        grids: (frames, rows, columns) of patches of each of S samples.
        angles: of rotary positions, [N, d / 2]; None where positions are added.
        which: int64 [N], the condition of each token among K; None where there is one.
        video_conditions: how many of the K are of patches; the others are of words.
        mask: bool [B or 1, F, F], True where frame i may attend to frame j; None for all. Of one sample.
        words: tokens of words in front of each sample's patches, 0 where they are read by cross-attention.
        readable: bool [B, words] of one sample, else [S, words]: which of them are no padding.
    """

    grids: Sequence[Grid]
    angles: Tensor | None = None
    which: Tensor | None = None
    video_conditions: int = 1
    mask: Tensor | None = None
    words: int = 0
    readable: Tensor | None = None

    @classmethod
    def of(
        cls, grids: Sequence[Grid], conditions: Sequence[int], mask: Tensor | None, readable: Tensor | None, device: Any
    ) -> TokenRow:
        """The pattern of samples on these grids, each with one condition or one a frame; conditions of patches come
        first, then one of each sample's words."""
        words, total, base = 0 if readable is None else readable.shape[1], sum(conditions), 0
        which: list[Tensor] = []
        for sample, (grid, count) in enumerate(zip(grids, conditions, strict=True)):
            which.append(torch.full((words,), total + sample, device=device))
            which.append(base + torch.arange(count, device=device).repeat_interleave(prod(grid) // count))
            base += count
        alone = total == 1 and not words
        return cls(grids, None, None if alone else torch.cat(which), total, mask, words, readable)

    def positions(self, device: Any) -> Tensor:
        """(t, h, w) of every token, [N, 3]: each sample's from 0 on, words at (0, 0, 0)."""
        parts = [p for g in self.grids for p in (torch.zeros(self.words, 3, device=device), grid_positions(*g, device))]
        return torch.cat(parts)

    @cached_property
    def spans(self) -> list[slice]:
        """Each sample's tokens."""
        ends, end = [], 0
        for frames, rows, columns in self.grids:
            ends.append(slice(end, end + self.words + frames * rows * columns))
            end = ends[-1].stop
        return ends

    @cached_property
    def patches(self) -> Tensor | None:
        """Where the patches are in the row, int64; None where there is nothing else."""
        if not self.words:
            return None
        return torch.cat([torch.arange(span.start + self.words, span.stop) for span in self.spans])

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """Which tokens each token of a sample may attend to, bool, broadcastable to [B, 1, n, n]; None for all."""
        return [self._mask_of(sample) for sample in range(len(self.grids))]

    def _mask_of(self, sample: int) -> Tensor | None:
        frames, rows, columns = self.grids[sample]
        seen = None
        if self.mask is not None:  # from frames to tokens
            seen = self.mask.repeat_interleave(rows * columns, 1).repeat_interleave(rows * columns, 2)[:, None]
        if self.readable is None:
            return seen
        readable = self.readable if len(self.grids) == 1 else self.readable[sample : sample + 1]
        keys = torch.cat([readable, readable.new_ones(len(readable), frames * rows * columns)], 1)[:, None, None]
        if seen is None:
            return keys
        whole = keys.new_ones(1, 1, keys.shape[-1], keys.shape[-1])
        whole = whole.expand(len(seen), -1, -1, -1).clone()
        whole[:, :, self.words :, self.words :] = seen
        return keys & whole

    def given_to(self, values: Tensor) -> Tensor:
        """What each token has of [B, K, D]: [B, 1 or N, D]."""
        return values if self.which is None else values[:, self.which]

    def angles_of(self, sample: int) -> Tensor | None:
        return None if self.angles is None else self.angles[self.spans[sample]]


def gather_skipping(tokens: int, ratio: int, runs: bool, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Skiparse: sequences that each keep every `ratio`'th token, or runs of `ratio` tokens of every `ratio`²; together
    they hold every token once.

        (g k) -> k sequences of stride k;   (n m k) -> m sequences of runs of k, m = k

    Source: 2412.00131 section 2.3.

    Returns:
        (places [k, n], there [k, n]): which token stands where, the end padded to a multiple of k², and whether it is
        one.
    """
    padded = -(-tokens // ratio**2) * ratio**2
    places = torch.arange(padded, device=device)
    if runs:
        places = places.unflatten(0, (-1, ratio, ratio)).transpose(0, 1).flatten(1)
    else:
        places = places.unflatten(0, (-1, ratio)).T
    return places.clamp(max=tokens - 1), places < tokens
