"""The figures of a cascade and of its distilled form: `python -m benchmarks.imagen_video FULL DISTILLED`.

Both are folders of `muybridge models cascade`. 100 prompts "a COLOUR SHAPE moving DIRECTION" at the final size, judged
from pixels; motion and appearance distance to true clips over three seeds; network evaluations and wall clock, in turn
in one run; peak memory of the last stage in tiles, at its own size and at four times as many pixels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.against_diffusers import peak
from benchmarks.world_vdm import prompt_of, score, triples_of
from muybridge.data.registry import make_source
from muybridge.data.world import WorldSource
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.judge import judge
from muybridge.files import write_json
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.imagen_video.pipeline import CascadePipeline
from muybridge.training.recipe import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "world-imagen-7-space.yaml"
SEEDS = (0, 1, 2)
#: Every so many frames of a clip are looked at by the feature network, whose distances need few.
LOOKED_AT = 4


@contextmanager
def evaluations(pipeline: CascadePipeline) -> Iterator[list[int]]:
    """Counts rows that any stage's network is called with: guidance counts twice, a batch as its videos."""
    counted, opened = [0], pipeline.opened

    def counting(index: int) -> Any:
        stage = opened(index)
        stage.network.register_forward_pre_hook(lambda m, given: counted.__setitem__(0, counted[0] + len(given[0])))
        return stage

    pipeline.opened = counting  # type: ignore[method-assign]
    try:
        yield counted
    finally:
        pipeline.opened = opened  # type: ignore[method-assign]


def drawn(pipeline: Any, prompts: Sequence[str], seed: int, batch: int = 4) -> list[np.ndarray]:
    """A video uint8 [F, H, W, 3] for each prompt, seeds one after another."""
    out: list[np.ndarray] = []
    for i in range(0, len(prompts), batch):
        some = list(prompts[i : i + batch])
        out += list(pipeline(some, seed=[seed + i + k for k in range(len(some))]).frames)
        print(f"  {len(out)} of {len(prompts)}", flush=True)
    return out


def words_and_distances(folder: str, source: WorldSource, count: int) -> dict[str, Any]:
    """What the judge says of `count` videos of seed 0, and distances to true clips for each of SEEDS."""
    pipeline, network = load_pipeline(folder), PictureFeatures()
    triples = list(itertools.islice(itertools.cycle(triples_of(source)[0]), count))
    prompts = [prompt_of(t) for t in triples]
    true = [source.clip(i).frames[::LOOKED_AT] for i in range(2 * count)]
    reference, other = clip_features(network, true[:count]), clip_features(network, true[count:])
    out: dict[str, Any] = {"true clips": _distances(reference, other)}
    for seed in SEEDS:
        videos = drawn(pipeline, prompts, 10_000 * seed)
        out[f"seed {seed}"] = score([judge(v) for v in videos], triples) | _distances(
            reference, clip_features(network, [v[::LOOKED_AT] for v in videos])
        )
        print(folder, seed, json.dumps(out[f"seed {seed}"]), flush=True)
    return out


def _distances(reference: Any, other: Any) -> dict[str, float]:
    names = ("appearance", "motion")
    return {n: frechet_distance(getattr(reference, n), getattr(other, n)) for n in names}


def cost(folders: Sequence[str], rounds: int) -> dict[str, Any]:
    """Evaluations and seconds of one video, the cascades in turn; medians."""
    out: dict[str, Any] = {f: {"evaluations": 0, "seconds": []} for f in folders}
    pipelines = {f: load_pipeline(f) for f in folders}
    for _ in range(rounds):
        for folder, pipeline in pipelines.items():
            with evaluations(pipeline) as counted:
                began = time.perf_counter()
                pipeline("a red circle moving left", seed=0)
                out[folder]["seconds"].append(time.perf_counter() - began)
            out[folder]["evaluations"] = counted[0]
    for told in out.values():
        told["seconds"] = float(np.median(told["seconds"]))
    return out


def memory(folder: str) -> dict[str, float]:
    """Peak memory, GB, of the last stage in tiles at its size and at twice as many pixels a side, each in a process of
    its own."""
    out = {}
    for times in (1, 2):
        command = [sys.executable, "-m", "benchmarks.imagen_video", folder, "--last-stage", str(times)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        out[f"{times} x"] = json.loads(done.stdout.splitlines()[-1])
    return out


def last_stage(folder: str, times: int) -> float:
    """Run the last stage once, two steps, in the same tiles at any size."""
    pipeline = load_pipeline(folder)
    assert isinstance(pipeline, CascadePipeline)
    stage = pipeline.opened(len(pipeline.names) - 1)
    frames, height, width = stage.stage.given
    from muybridge.systems.imagen_video.tiles import receptive_radius

    tile = 4 * receptive_radius(stage.network.config)
    small = torch.zeros(1, 3, frames, height * times, width * times)
    stage.raise_video(small, ["a red circle moving left"], 0, tile, num_inference_steps=2)
    return peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="the full cascade, and its distilled form")
    parser.add_argument("--count", type=int, default=100, help="prompts")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each")
    parser.add_argument("--last-stage", type=int, default=0, help="only this, at so many times the size (for itself)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "imagen_video.json")
    arguments = parser.parse_args()
    if arguments.last_stage:
        print(last_stage(arguments.folders[0], arguments.last_stage))
        return
    source = make_source(load_recipe(RECIPE).data)
    assert isinstance(source, WorldSource)
    figures: dict[str, Any] = {
        "cost": cost(arguments.folders, arguments.rounds),
        "memory": memory(arguments.folders[-1]),
    }
    print(json.dumps(figures, indent=1), flush=True)
    for folder in arguments.folders:
        figures[folder] = words_and_distances(folder, source, arguments.count)
        write_json(arguments.output, figures)


if __name__ == "__main__":
    main()
