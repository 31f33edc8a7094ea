"""Batches made inside the step, ahead of it by threads, and ahead of it by DataLoader's processes: milliseconds a
training step.

    python -m benchmarks.loading [--threads 2]

The recipe of world-vdm with AdamW: clips are drawn anew for every batch. The ways take turns, so that what else the
machine does falls on all alike; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from muybridge.data.ahead import in_order
from muybridge.learning.contract import TrainingBatch
from muybridge.training.recipe import load_recipe
from muybridge.training.trainer import Trainer

STEPS = 6


class Batches(torch.utils.data.Dataset):
    """The trainer's batches as a DataLoader takes them."""

    def __init__(self, make: Callable[[int], TrainingBatch]):
        self.make = make

    def __getitem__(self, number: int) -> TrainingBatch:
        return self.make(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of the step")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "world-vdm.yaml")
    training = replace(recipe.training, threads=given.threads, validation_clips=2, optimizer="adamw", workers=0)
    recipe = replace(recipe, data={**recipe.data, "num_clips": 256}, training=training)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), console=Console(quiet=True))
        trainer.prepare()
        make = trainer._batch

        def threads(count: int) -> Iterator[TrainingBatch]:
            return in_order(make, range(STEPS), count)

        def processes(count: int) -> Iterator[TrainingBatch]:
            loader = torch.utils.data.DataLoader(
                Batches(make), batch_size=None, sampler=range(STEPS), num_workers=count
            )
            return iter(loader)

        ways: dict[str, Callable[[], Iterator[TrainingBatch]]] = {
            "inside the step": lambda: threads(0),
            "1 thread": lambda: threads(1),
            "2 threads": lambda: threads(2),
            "1 process": lambda: processes(1),
            "2 processes": lambda: processes(2),
        }
        began = time.perf_counter()
        for number in range(STEPS):
            make(number)
        print(f"a batch of {training.batch_size} takes {1000 * (time.perf_counter() - began) / STEPS:.0f} ms to make")
        found: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for name, way in ways.items():
                batches = way()
                for number in range(STEPS):
                    began = time.perf_counter()
                    trainer.feed = lambda _, batches=batches: next(batches)  # type: ignore[assignment]
                    trainer.step(number)
                    trainer.optimizer.zero_grad()
                    if number:
                        found.setdefault(name, []).append(time.perf_counter() - began)
    for name, times in found.items():
        print(f"{name:>16}: {1000 * statistics.median(times):.0f} ms a step")


if __name__ == "__main__":
    main()
