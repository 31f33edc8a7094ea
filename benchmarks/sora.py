"""The figures of a trained Sora model: `python -m benchmarks.sora RECIPE MODEL -o figures.json`.

Prompts of the generated world at two sizes, judged from pixels; the held-out loss of every size; seams of extension
both ways, of loops and of connections; how a redrawing follows its strength; the autoencoder's round trip.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.world_vdm import measure_words, prompt_of, triples_of
from muybridge.data.clips import Clip, ClipSource, buckets_of
from muybridge.data.embeddings import CaptionEmbeddings
from muybridge.data.latents import ClipLatents
from muybridge.data.registry import make_source
from muybridge.data.world import WorldConfig, WorldSource
from muybridge.evaluation.motion import frame_differences, psnr, seam_ratio
from muybridge.files import cache_folder
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import bridge, extend_video
from muybridge.pipelines.redraw import redraw
from muybridge.training.batches import HeldOutClips
from muybridge.training.recipe import Recipe, load_recipe, make_system

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def held_out(recipe: Recipe) -> ClipSource:
    return make_source(recipe.data, "validation")


def first_of(source: ClipSource, count: int) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Each shape, and the numbers of its first clips."""
    for bucket in buckets_of(source):
        rows = list(dict.fromkeys(bucket.tolist()))[:count]
        yield tuple(source.clip(rows[0]).frames.shape[:3]), rows


class Some:
    """Some clips of a source, of one shape."""

    def __init__(self, source: ClipSource, rows: list[int]):
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, index: int) -> Clip:
        return self.source.clip(self.rows[index])

    def still(self, index: int, frame: int) -> Clip:
        return self.source.still(self.rows[index], frame)

    def captions(self) -> list[str]:
        return [self.clip(i).caption for i in range(len(self))]


@torch.no_grad()
def losses_by_size(recipe: Recipe, pipeline: Any, count: int) -> dict[str, float]:
    """Held-out loss of each shape, and the largest over the smallest."""
    system, out = make_system(recipe), {}
    for shape, rows in first_of(held_out(recipe), count):
        some = Some(held_out(recipe), rows)
        text = recipe.text and CaptionEmbeddings(some.captions(), recipe.text, cache_folder() / "benchmarks")
        latents = ClipLatents(some, pipeline.space, cache_folder() / "benchmarks")
        batch = HeldOutClips(some, text or None, 0, recipe.seed, latents).first(len(some), pipeline.device)
        out["x".join(map(str, shape))] = float(system.losses(pipeline.network, batch).error.mean())
    return out | {"worst_over_best": max(out.values()) / min(out.values())}


def seams(pipeline: Any, clips: list[Clip]) -> dict[str, float]:
    """Seam ratios, and how far a loop's end is from its start against a frame's mean difference."""
    found: dict[str, list[float]] = {}
    for number, clip in enumerate(clips):
        frames, count = clip.frames, len(clip.frames)
        size = {"num_frames": 2 * count - 1, "height": frames.shape[1], "width": frames.shape[2]}
        told = {"prompt": clip.caption, "seed": number, "method": "auto", **size}
        longer = extend_video(pipeline, frames, add_frames=count - 1, **told)
        earlier = extend_video(pipeline, frames, add_frames=count - 1, backward=True, **told)
        new = bridge(pipeline, frames, frames, **told)
        loop = np.concatenate([frames, new])
        other = clips[(number + 1) % len(clips)].frames
        both = np.concatenate([frames, bridge(pipeline, frames, other, **told), other])
        closed = float(np.abs(loop[-1].astype(int) - loop[0]).mean() / max(frame_differences(loop).mean(), 1e-9))
        for name, value in {
            "extend": seam_ratio(longer, [count - 1]), "backward": seam_ratio(earlier, [count - 2]),
            "loop": seam_ratio(np.concatenate([loop, loop[:1]]), [count - 1, len(loop) - 1]),
            "connect": seam_ratio(both, [count - 1, len(both) - count - 1]), "loop_closure": closed,
        }.items():  # fmt: skip
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def redrawn(pipeline: Any, clips: list[Clip]) -> dict[str, list[float]]:
    """Mean distance of a redrawing from its source, grey levels, by strength."""
    out = []
    for strength in STRENGTHS:
        far = []
        for number, clip in enumerate(clips):
            other = clips[(number + 1) % len(clips)].caption
            made = redraw(pipeline, from_uint8(clip.frames)[None], other, strength, number).frames[0]
            far.append(float(np.abs(made.astype(int) - clip.frames).mean()))
        out.append(float(np.mean(far)))
    return {"strength": list(STRENGTHS), "distance": out}


@torch.no_grad()
def round_trip(pipeline: Any, clips: list[Clip]) -> dict[str, float]:
    """The autoencoder's: decibels, the error of frame differences in grey levels, and latent values a pixel."""
    quality, motion, values = [], [], 0.0
    for clip in clips:
        video = from_uint8(clip.frames)[None]
        latents = pipeline.space.encode(video)[0]
        back = to_uint8(pipeline.space.decode(latents))[0]
        quality.append(psnr(back, clip.frames))
        steps = [np.diff(x.astype(int), axis=0) for x in (back, clip.frames)]
        motion.append(float(np.abs(steps[0] - steps[1]).mean()) if len(back) > 1 else 0.0)
        values = latents.numel() / video[0, 0].numel()
    return {"psnr": float(np.mean(quality)), "motion_error": float(np.mean(motion)), "values_per_pixel": values}


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("recipe", type=Path)
    told.add_argument("model")
    told.add_argument("-o", "--output", type=Path, required=True)
    told.add_argument("--count", type=int, default=100, help="prompts at each size")
    told.add_argument("--scenes", type=int, default=16, help="clips of each other measure")
    given = told.parse_args()
    recipe, pipeline = load_recipe(given.recipe), load_pipeline(given.model, "cpu")
    own = pipeline.settings()
    wide = {"height": own.height * 3 // 4 // pipeline.multiple * pipeline.multiple, "width": own.width * 5 // 4}
    wide["width"] = wide["width"] // pipeline.multiple * pipeline.multiple
    seen, _ = triples_of(WorldSource(WorldConfig(height=own.height, width=own.width, num_frames=own.num_frames)))
    figures: dict[str, Any] = {"prompt": prompt_of(seen[0])}
    figures["words"], _ = measure_words(pipeline, seen, given.count, 0)
    pipeline.register_to_config(sampling={**pipeline.config.sampling, **wide})
    figures["words_wide"] = measure_words(pipeline, seen, given.count, 1000)[0] | wide
    pipeline.register_to_config(sampling={**pipeline.config.sampling, "height": own.height, "width": own.width})
    figures["losses"] = losses_by_size(recipe, pipeline, given.scenes)
    source = WorldSource(
        WorldConfig(height=own.height, width=own.width, num_frames=own.num_frames, split="validation", two_things=0.0)
    )
    clips = [source.clip(i) for i in range(given.scenes)]
    figures["seams"], figures["redrawn"] = seams(pipeline, clips), redrawn(pipeline, clips)
    figures["round_trip"] = round_trip(pipeline, clips)
    given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
