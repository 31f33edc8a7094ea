"""Which clips a step sees, and how they become tensors: a function of (seed, step, place) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from accelerate import Accelerator

from muybridge.data.clips import ClipSource
from muybridge.data.embeddings import CaptionEmbeddings
from muybridge.diffusion.noise import derive_seed
from muybridge.nn.text_conditioning import TextCondition
from muybridge.systems.contract import TrainingBatch
from muybridge.systems.pipeline import from_uint8


class BatchMaker:
    """Draws clips epoch by epoch in shuffled order.

    Args:
        source: the clips.
        embeddings: of every caption of the source; None for a model without text.
        images_per_video: stills of other clips appended to each clip.
        total: the global batch size.
    """

    def __init__(
        self,
        source: ClipSource,
        embeddings: CaptionEmbeddings | None,
        images_per_video: int,
        total: int,
        seed: int,
        purpose: str = "data",
    ):
        self.source, self.embeddings = source, embeddings
        self.images_per_video, self.total = images_per_video, total
        self.seed, self.purpose = seed, purpose
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(derive_seed(self.seed, self.purpose, epoch)).permutation(len(self.source))

    def index_of(self, step: int, place: int) -> int:
        """Which clip stands at a place of a step's global batch."""
        epoch, position = divmod(step * self.total + place, len(self.source))
        return int(self._order(epoch)[position])

    def __call__(self, step: int, places: Sequence[int], device: torch.device | str = "cpu") -> TrainingBatch:
        rows, captions = [], []
        for place in places:
            clip = self.source.clip(self.index_of(step, place))
            frames, words = [clip.frames], [clip.caption]
            rng = np.random.default_rng(derive_seed(self.seed, f"{self.purpose}-stills", step, place))
            for _ in range(self.images_per_video):
                other = int(rng.integers(len(self.source)))
                still = self.source.still(other, int(rng.integers(len(clip.frames))))
                frames.append(still.frames)
                words.append(still.caption)
            rows.append(np.concatenate(frames))
            captions.append(words)
        video = from_uint8(np.stack(rows)).to(device)
        return TrainingBatch(
            video, self._embed(captions, device), self.images_per_video, places, self.total, self.seed, step
        )

    def _embed(self, captions: list[list[str]], device: torch.device | str) -> TextCondition | None:
        if self.embeddings is None:
            return None
        flat = self.embeddings([c for row in captions for c in row])
        shape = (len(captions), len(captions[0]))
        return TextCondition(*(t.unflatten(0, shape) for t in (flat.pooled, flat.tokens, flat.mask))).to(device)


class HeldOutClips:
    """Held-out clips in order, each with its own fixed time and noise, shared over the processes."""

    def __init__(self, source: ClipSource, embeddings: CaptionEmbeddings | None, images: int, seed: int):
        self.count = len(source)
        self.maker = BatchMaker(source, embeddings, images, self.count, derive_seed(seed, "validation"), "validation")
        self.maker.index_of = lambda step, place: place  # type: ignore[method-assign]

    def __call__(self, share: int, accelerator: Accelerator) -> Iterator[TrainingBatch]:
        rank, processes = accelerator.process_index, accelerator.num_processes
        usable = self.count - self.count % processes
        mine = list(range(rank, usable, processes))
        for start in range(0, len(mine), share):
            yield self.maker(0, mine[start : start + share], accelerator.device)
