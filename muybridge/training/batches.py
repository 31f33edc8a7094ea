"""Which clips a step sees, and how they become tensors: a function of (seed, step, place) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from muybridge.data.clips import ClipSource, buckets_of
from muybridge.data.embeddings import NULL_CAPTION, CaptionEmbeddings
from muybridge.data.latents import ClipLatents
from muybridge.diffusion.noise import derive_seed, generator_for
from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.nn.frames import from_uint8
from muybridge.nn.text_conditioning import TextCondition
from muybridge.training.feed import to_device


class BatchMaker:
    """Draws clips epoch by epoch in shuffled order; loops start anywhere (a stored loop has no first frame).

    Clips of different shapes never meet in a batch: each shape's clips fill batches of their own, the last one with
    clips that it has shown already, and the batches are shuffled.

    Args:
        source: the clips.
        embeddings: of every caption of the source; None for a model without text.
        images_per_video: stills of other clips appended to each clip.
        total: the global batch size.
        latents: of every clip; a batch then holds latents in place of pixels.
        pixels: "first" hands over the first frame's pixels beside the latents, "all" every frame's.
    """

    def __init__(
        self,
        source: ClipSource,
        embeddings: CaptionEmbeddings | None,
        images_per_video: int,
        total: int,
        seed: int,
        purpose: str = "data",
        latents: ClipLatents | None = None,
        pixels: str = "",
    ):
        if latents is not None and images_per_video:
            raise UserError("diffusion.images_per_video: stills are not joined to clips in a latent space")
        self.source, self.embeddings = source, embeddings
        self.deck = np.asarray(getattr(source, "deck", np.arange(len(source))))
        self.buckets = buckets_of(source)
        whole = sum(-(-len(b) // total) * total for b in self.buckets)
        #: clips of an epoch
        self.epoch = len(self.deck) if len(self.buckets) == 1 else whole
        self.images_per_video, self.total = images_per_video, total
        self.seed, self.purpose, self.latents = seed, purpose, latents
        self.pixels = pixels
        # the latents of a causal autoencoder begin with the first frame alone: a loop in them starts there
        self.rolls = purpose == "data" and bool(getattr(source, "loops", False)) and getattr(latents, "time", 1) == 1
        self.captions = source.captions() if latents is not None else []
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng(derive_seed(self.seed, self.purpose, epoch))
        if len(self.buckets) == 1:
            return rng.permutation(self.deck)
        batches = [np.resize(rng.permutation(b), (-(-len(b) // self.total), self.total)) for b in self.buckets]
        return rng.permutation(np.concatenate(batches)).ravel()

    def index_of(self, step: int, place: int) -> int:
        """Which clip stands at a place of a step's global batch."""
        epoch, position = divmod(step * self.total + place, self.epoch)
        return int(self._order(epoch)[position])

    def __call__(self, step: int, places: Sequence[int], device: torch.device | str = "cpu") -> TrainingBatch:
        """The clips at some places of a step's global batch; safe to call from several threads."""
        if self.latents is not None:
            video, captions = self._latents(step, places)
            rows = [self.index_of(step, place) for place in places]
            scalars = {n: getattr(self.latents, n)[rows] for n in ("fps", "motion_bucket")}
        else:
            video, captions, rates = self._pixels(step, places)
            scalars = {"fps": torch.tensor(rates)}
        made = TrainingBatch(
            video,
            self._embed(captions),
            self.images_per_video,
            places,
            self.total,
            self.seed,
            step,
            None if self.embeddings is None else self.embeddings([NULL_CAPTION]),
            scalars,
            self._beside(step, places, 1) if self.pixels == "first" else None,
            self._beside(step, places) if self.pixels == "all" else None,
            bool(getattr(self.source, "loops", False)),
        )
        return to_device(made, device)

    def _beside(self, step: int, places: Sequence[int], count: int | None = None) -> Tensor:
        """Pixels of each clip's (first) frames as its latents stand, [B, 3, F or count, H, W]."""
        rows = []
        for place in places:
            frames = self.source.clip(self.index_of(step, place)).frames
            rows.append(from_uint8(np.roll(frames, self._roll(len(frames), step, place), 0)[:count]))
        return torch.stack(rows)

    def _roll(self, frames: int, step: int, place: int) -> int:
        if not self.rolls:
            return 0
        return int(np.random.default_rng(derive_seed(self.seed, f"{self.purpose}-roll", step, place)).integers(frames))

    def _latents(self, step: int, places: Sequence[int]) -> tuple[Tensor, list[list[str]]]:
        assert self.latents is not None
        rows, captions = [], []
        for place in places:
            index = self.index_of(step, place)
            generator = generator_for(self.seed, f"{self.purpose}-latents", step, place)
            row = self.latents(index, generator)
            rows.append(row.roll(self._roll(row.shape[1], step, place), 1))
            captions.append([self.captions[index]])
        return torch.stack(rows), captions

    def _pixels(self, step: int, places: Sequence[int]) -> tuple[Tensor, list[list[str]], list[float]]:
        rows, captions, rates = [], [], []
        for place in places:
            index = self.index_of(step, place)
            clip = self.source.clip(index)
            alike = next(b for b in self.buckets if len(self.buckets) == 1 or index in b)
            shift = self._roll(len(clip.frames), step, place)
            frames, words = [np.roll(clip.frames, shift, 0)], [clip.caption]
            rng = np.random.default_rng(derive_seed(self.seed, f"{self.purpose}-stills", step, place))
            for _ in range(self.images_per_video):
                other = int(alike[rng.integers(len(alike))])
                still = self.source.still(other, int(rng.integers(len(clip.frames))))
                frames.append(still.frames)
                words.append(still.caption)
            rows.append(np.concatenate(frames))
            captions.append(words)
            rates.append(float(clip.fps))
        return from_uint8(np.stack(rows)), captions, rates

    def _embed(self, captions: list[list[str]]) -> TextCondition | None:
        if self.embeddings is None:
            return None
        flat = self.embeddings([c for row in captions for c in row])
        shape = (len(captions), len(captions[0]))
        return TextCondition(*(t.unflatten(0, shape) for t in (flat.pooled, flat.tokens, flat.mask)))


class HeldOutClips:
    """Held-out clips in order, each with its own fixed time and noise, shared over the processes."""

    def __init__(
        self,
        source: ClipSource,
        embeddings: CaptionEmbeddings | None,
        images: int,
        seed: int,
        latents: ClipLatents | None = None,
        pixels: str = "",
    ):
        self.count = len(source)
        root = derive_seed(seed, "validation")
        self.maker = BatchMaker(source, embeddings, images, self.count, root, "validation", latents, pixels)
        self.maker.index_of = lambda step, place: place  # type: ignore[method-assign]

    def __call__(self, share: int, accelerator: Accelerator) -> Iterator[TrainingBatch]:
        rank, processes = accelerator.process_index, accelerator.num_processes
        for bucket in self.maker.buckets:
            usable = len(bucket) - len(bucket) % processes
            mine = bucket[rank:usable:processes].tolist()
            for start in range(0, len(mine), share):
                yield self.maker(0, mine[start : start + share], accelerator.device)

    def first(self, count: int, device: torch.device | str) -> TrainingBatch:
        """The first clips of one shape."""
        return self.maker(0, self.maker.buckets[0][:count].tolist(), device)
