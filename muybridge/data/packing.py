"""Which clips share a row: packs of any shapes up to a budget of tokens, or buckets of one shape.

Source: 2307.06304 (packs), 2412.20404 section 3.2 (buckets).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from muybridge.errors import UserError
from muybridge.learning.contract import BATCHINGS

PACK, BUCKET = BATCHINGS


def pack(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Put things, in the order in which they come, each into the fullest row that has room for it (best fit).

    Args:
        sizes: tokens of each thing.
        budget: tokens of a row.

    Returns:
        Rows of places in `sizes`; each place once.

    Raises:
        UserError: something larger than a row.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    _check_fits(max(sizes, default=0), budget)
    for place, size in enumerate(sizes):
        at = bisect_left(room, (size, -1))
        left, row = room.pop(at) if at < len(room) else (budget, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(place)
        if left > size:
            insort(room, (left - size, row))
    return rows


def bucket(classes: Sequence[int], sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Rows of one class each, as many of it as the budget has room for; the last row of a class may hold fewer."""
    _check_fits(max(sizes, default=0), budget)
    rows: list[list[int]] = []
    for name in sorted(set(classes)):
        places = [i for i, c in enumerate(classes) if c == name]
        each = budget // sizes[places[0]]
        rows += [places[i : i + each] for i in range(0, len(places), each)]
    return rows


def _check_fits(largest: int, budget: int) -> None:
    if largest > budget:
        raise UserError(
            f"diffusion.token_budget {budget}: the largest clips have {largest} tokens (with their words, where these "
            "are in the sequence); raise it, or lower the clips' frames or size"
        )


class RowPlan:
    """The rows of every epoch. Which shapes stand in a row is planned once; which clips of a shape, and the order of
    the rows, are drawn for each epoch, so that every epoch has as many rows and shows every clip once.

    Args:
        buckets: the clips' numbers, by shape (data.clips.buckets_of).
        tokens: of a clip of each bucket.
        budget: tokens of a row.
        batching: one of BATCHINGS.
        seed: of the plan.
    """

    def __init__(
        self, buckets: Sequence[np.ndarray], tokens: Sequence[int], budget: int, batching: str = PACK, seed: int = 0
    ):
        self.buckets, self.budget = [np.asarray(b) for b in buckets], budget
        classes = np.concatenate([np.full(len(b), i) for i, b in enumerate(self.buckets)])
        classes = np.random.default_rng(seed).permutation(classes)
        sizes = [tokens[c] for c in classes]
        places = pack(sizes, budget) if batching == PACK else bucket(classes.tolist(), sizes, budget)
        self.rows = [sorted(int(classes[i]) for i in row) for row in places]  # clips of one shape side by side
        self.used = sum(sizes)

    @property
    def wasted(self) -> float:
        """Share of the rows' budget that stays empty."""
        return 1 - self.used / (self.budget * len(self.rows))

    def epoch(self, seed: int) -> list[list[int]]:
        """Rows of clips, shuffled by a seed."""
        rng = np.random.default_rng(seed)
        decks = [iter(rng.permutation(b).tolist()) for b in self.buckets]
        filled = [[next(decks[c]) for c in row] for row in self.rows]
        return [filled[i] for i in rng.permutation(len(filled))]
