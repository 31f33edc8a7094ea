"""Packs, buckets and padding: tokens a second of a training step on one mixed set, in one process; and what a step
costs by the number of its tokens, against the machine's rate of matrix products.

python -m benchmarks.packing [--rounds 5] [--width 256] [--layers 4]

Every way shows the same clips in rows of the same budget. Useful tokens are the clips' own; padding computes others.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.run import count_flops, gemm, medians
from muybridge.data.packing import BUCKET, PACK, RowPlan
from muybridge.models.transformer import SpacetimeTransformer
from muybridge.nn.layout import suit_cpu

#: Shapes of recipes/world-sora.yaml in patches, and hundreds of clips of each (the rows shown are the first of many).
HUNDREDS = 100
SHAPES = {(1, 8, 8): 12, (2, 10, 6): 2, (3, 8, 8): 12, (3, 6, 10): 4, (3, 10, 6): 4, (5, 8, 8): 4, (5, 6, 10): 2}
BUDGET, CHANNELS, SHOWN = 1536, 8, 12
#: Tokens of the steps whose cost is fitted.
LENGTHS = (128, 256, 512, 1024, 2048)


def clips_of(row: Sequence[int]) -> list[Tensor]:
    shapes = list(SHAPES)
    return [torch.randn(CHANNELS, *shapes[i]) for i in row]


def packed(model: Any, row: Sequence[int]) -> Any:
    clips, lams = clips_of(row), [torch.zeros(())] * len(row)
    return lambda: sum(out.square().mean() for out in model(clips, lams)).backward()


def batched(model: Any, row: Sequence[int]) -> Any:
    clips = torch.stack(clips_of(row))
    return lambda: model(clips, torch.zeros(len(row))).square().mean().backward()


def padded(model: Any, row: Sequence[int]) -> Any:
    """Every clip as large as the largest of the row; which tokens count would only mask the loss."""
    clips = clips_of(row)
    size = [max(c.shape[axis] for c in clips) for axis in (1, 2, 3)]
    whole = torch.zeros(len(clips), CHANNELS, *size)
    return lambda: model(whole, torch.zeros(len(clips))).square().mean().backward()


def rows_of(batching: str) -> RowPlan:
    ends = np.cumsum([0, *SHAPES.values()])
    buckets = [np.arange(a, b) for a, b in zip(HUNDREDS * ends, HUNDREDS * ends[1:], strict=False)]
    return RowPlan(buckets, [prod(shape) for shape in SHAPES], BUDGET, batching, seed=1)


def compare(model: Any, rounds: int) -> dict[str, Any]:
    """Useful tokens a second of each way, and the share of computed or budgeted tokens that are none."""
    shapes, found = list(SHAPES), {}
    ways = {"pack": (rows_of(PACK), packed), "bucket": (rows_of(BUCKET), batched), "pad": (rows_of(PACK), padded)}
    jobs, tokens = {}, {}
    for name, (plan, make) in ways.items():
        rows = plan.rows[:SHOWN]
        steps = [make(model, row) for row in rows]
        jobs[name] = lambda steps=steps: [step() for step in steps]
        tokens[name] = sum(prod(shapes[i]) for row in rows for i in row)
        empty = plan.wasted
        if name == "pad":
            sizes = [[max(shapes[i][a] for i in row) for a in range(3)] for row in plan.rows]
            computed = sum(len(row) * prod(size) for row, size in zip(plan.rows, sizes, strict=True))
            empty = 1 - plan.used / computed
        found[name] = {"wasted": round(empty, 4)}
    for name, seconds in medians(jobs, rounds).items():
        found[name]["tokens_per_second"] = round(tokens[name] / seconds)
    return found


def cost(model: Any, rounds: int) -> dict[str, Any]:
    """Seconds of a step by its tokens, the exponent between the last two, and a step's rate against a product's."""
    steps = {str(n): batched_frames(model, n // 64) for n in LENGTHS}
    product, flops = gemm()
    times = medians({**steps, "gemm": product}, rounds)
    seconds = {n: times[str(n)] for n in LENGTHS}
    last, before = LENGTHS[-1], LENGTHS[-2]
    rate = count_flops(steps[str(last)]) / seconds[last]
    return {
        "seconds_by_tokens": {str(n): round(s, 4) for n, s in seconds.items()},
        "exponent": round(math.log(seconds[last] / seconds[before]) / math.log(last / before), 3),
        "share_of_gemm": round(rate / (flops / times["gemm"]), 3),
    }


def batched_frames(model: Any, frames: int) -> Any:
    clip = torch.randn(1, CHANNELS, frames, 8, 8)
    return lambda: model(clip, torch.zeros(1)).square().mean().backward()


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--rounds", type=int, default=5)
    told.add_argument("--width", type=int, default=256)
    told.add_argument("--layers", type=int, default=4)
    given = told.parse_args()
    model = SpacetimeTransformer(
        in_channels=CHANNELS, out_channels=CHANNELS, width=given.width, layers=given.layers, heads=4,
        patch_size=(1, 1, 1), prediction_type="flow",
    )  # fmt: skip
    suit_cpu(model)
    found = {
        "width": given.width, "layers": given.layers, "threads": torch.get_num_threads(),
        "rows": compare(model, given.rounds), "cost": cost(model, given.rounds),
    }  # fmt: skip
    path = Path(__file__).with_name("packing.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
