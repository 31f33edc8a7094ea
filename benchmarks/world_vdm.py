"""The figures of a text-to-video model on the generated world, judged from pixels: `python -m benchmarks.world_vdm`.

100 prompts "a COLOUR SHAPE moving DIRECTION" of triples seen in training, 100 of held-out triples, and extensions of
generated scenes by reconstruction guidance and by replacement. Writes FIGURES beside the model card, and a picture.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from muybridge.data.registry import make_source
from muybridge.data.video_io import write_strip
from muybridge.data.world import WorldSource
from muybridge.data.world.captions import describe, name_thing
from muybridge.evaluation.judge import Verdict, judge
from muybridge.evaluation.motion import frame_differences, seam_ratio
from muybridge.files import ZOO
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import extend_video
from muybridge.pipelines.methods import METHODS
from muybridge.training.recipe import load_recipe

DIRECTIONS = ("left", "right", "up", "down")
RECIPE = Path(__file__).parent.parent / "recipes" / "world-vdm.yaml"
Triple = tuple[str, str, str]


def triples_of(source: WorldSource) -> tuple[list[Triple], list[Triple]]:
    """Directional triples seen in training, and those held out, each shuffled with a fixed seed."""
    config = source.config
    every = list(itertools.product(config.colours, config.shapes, DIRECTIONS))
    random.Random(0).shuffle(every)
    return [t for t in every if t not in source.held_out], [t for t in every if t in source.held_out]


def prompt_of(triple: Triple) -> str:
    colour, shape, direction = triple
    return describe(name_thing(colour, shape, "medium"), direction)


def score(verdicts: list[Verdict], triples: list[Triple]) -> dict[str, float]:
    right = np.array(
        [(v.colour == c, v.shape == s, v.direction == d) for v, (c, s, d) in zip(verdicts, triples, strict=True)]
    )
    return {
        "colour": float(right[:, 0].mean()),
        "shape": float(right[:, 1].mean()),
        "direction": float(right[:, 2].mean()),
        "all": float(right.all(1).mean()),
        "videos": len(right),
    }


def measure_words(pipeline: Any, triples: list[Triple], count: int, seed: int) -> tuple[dict[str, float], np.ndarray]:
    chosen = list(itertools.islice(itertools.cycle(triples), count))
    frames = pipeline([prompt_of(t) for t in chosen], seed=seed, batch_size=4).frames
    return score([judge(f) for f in frames], chosen), frames


def measure_extension(pipeline: Any, source: WorldSource, count: int) -> dict[str, float]:
    """Scenes of the model's length, gone on with for half of it: the seam against the rest, and how far it moves."""
    length = pipeline.settings().num_frames
    out: dict[str, list[float]] = {f"{m}_{k}": [] for m in METHODS for k in ("seam", "motion")}
    taken = 0
    for i in range(len(source)):
        clip = source.clip(i)
        if taken == count:
            break
        if not any(f"moving {d}" in clip.caption for d in DIRECTIONS):
            continue
        taken += 1
        known = clip.frames[: length // 2]  # there is room to go on: the scene itself does
        for method in METHODS:
            longer = extend_video(pipeline, known, clip.caption, length // 2, seed=i, method=method)
            out[f"{method}_seam"].append(seam_ratio(longer, [len(known) - 1]))
            truth = frame_differences(clip.frames[len(known) - 1 : length]).mean()
            out[f"{method}_motion"].append(float(frame_differences(longer[len(known) - 1 :]).mean() / truth))
    return {name: float(np.mean(values)) for name, values in out.items()} | {"scenes": taken}


def picture(frames: np.ndarray, path: Path, columns: int = 6, scale: int = 3) -> None:
    """An animated grid of videos [B, F, H, W, 3], as a gif."""
    rows = [frames[i : i + columns] for i in range(0, len(frames) - columns + 1, columns)]
    grid = np.concatenate([np.concatenate(list(row), axis=2) for row in rows], axis=1)
    pictures = [Image.fromarray(f.repeat(scale, 0).repeat(scale, 1)) for f in grid]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=125, loop=0, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="world-vdm")
    parser.add_argument("--count", type=int, default=100, help="videos of each kind")
    parser.add_argument("--held-out", type=int, default=0, help="videos of held-out triples; 0 for as many")
    parser.add_argument("--scenes", type=int, default=16, help="scenes to extend")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=None, help="write an animated grid here")
    parser.add_argument("--output", type=Path, default=ZOO / "world-vdm" / "figures.json")
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.model)
    source = make_source(load_recipe(RECIPE).data)
    assert isinstance(source, WorldSource)
    seen, held_out = triples_of(source)
    figures: dict[str, Any] = {}
    figures["seen"], frames = measure_words(pipeline, seen, arguments.count, arguments.seed)
    print(json.dumps(figures["seen"]))
    if arguments.picture:
        picture(frames[:18], arguments.picture)
        write_strip(frames[:6], arguments.picture.with_suffix(".png"))
    figures["held_out"], _ = measure_words(
        pipeline, held_out, arguments.held_out or arguments.count, arguments.seed + 1000
    )
    print(json.dumps(figures["held_out"]))
    validation = WorldSource(replace(source.config, split="validation"))
    figures["extension"] = measure_extension(pipeline, validation, arguments.scenes)
    print(json.dumps(figures["extension"]))
    arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
