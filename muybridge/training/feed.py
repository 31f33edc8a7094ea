"""Batches made ahead of the step that takes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from muybridge.learning.contract import TrainingBatch


class Feed:
    """What each step trains on, made by threads while the steps before it compute.

    Decoding, decompressing and numpy work outside Python's lock, and a batch is a function of its number alone, so
    results do not depend on how many threads there are. Threads rather than processes: as fast in measurement
    (docs/benchmarks.md), and nothing to fork beside a GPU or to signal.

    Args:
        make: the batch of a number, on the CPU.
        workers: threads; 0 makes a batch when it is asked for.
        device: where batches are handed over.
        end: the first number that is never asked for.
    """

    def __init__(self, make: Callable[[int], TrainingBatch], workers: int, device: torch.device, end: int):
        self.make, self.workers, self.device, self.end = make, workers, device, end
        self._pool = ThreadPoolExecutor(workers, "data") if workers else None
        self._pending: dict[int, Future[TrainingBatch]] = {}

    def __call__(self, number: int) -> TrainingBatch:
        """The batch of a number; those after it are begun."""
        if self._pool is None:
            return to_device(self.make(number), self.device)
        for other in [n for n in self._pending if not number <= n <= number + self.workers]:
            self._pending.pop(other).cancel()
        for ahead in (number, *range(number + 1, min(number + 1 + self.workers, self.end))):
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(self._pinned, ahead)
        return to_device(self._pending.pop(number).result(), self.device)

    def _pinned(self, number: int) -> TrainingBatch:
        batch = self.make(number)
        return _mapped(batch, lambda t: t.pin_memory()) if self.device.type == "cuda" else batch

    def close(self) -> None:
        """Drop what nobody will ask for."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()


def to_device(batch: TrainingBatch, device: torch.device | str) -> TrainingBatch:
    """The batch on a device; from pinned memory without waiting."""
    return _mapped(batch, lambda t: t.to(device, non_blocking=t.device.type == "cpu" and t.is_pinned()))


def _mapped(batch: TrainingBatch, act: Callable[[Tensor], Tensor]) -> TrainingBatch:
    def each(value: Any) -> Any:
        return None if value is None else act(value)

    texts: dict[str, Any] = {
        name: None
        if text is None
        else type(text)(*(each(t) for t in (text.pooled, text.tokens, text.mask, text.dropped)))
        for name, text in (("text", batch.text), ("null_text", batch.null_text))
    }
    return replace(
        batch,
        video=act(batch.video),
        scalars={name: act(value) for name, value in batch.scalars.items()},
        first_frame=each(batch.first_frame),
        pixels=each(batch.pixels),
        clips=tuple(act(clip) for clip in batch.clips),
        **texts,
    )
