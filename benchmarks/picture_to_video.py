"""What stands on emoji-image beside emoji-video: `python -m benchmarks.picture_to_video
decoder|animate|between|long|camera`.

decoder: flicker of reconstructions, as the motion distance of the round trip to the clips themselves, by the picture
decoder and by the one tuned on video. animate: is the first frame the picture, and does more motion asked for give more
motion. between: seams of 29 frames from 8, and the error of the frames in between against the truth, beside the mean of
their neighbours. long: peak memory of a video of 101 frames against one of 25, each in a process of its own. camera:
how far a camera LoRA moves the picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.against_diffusers import peak
from benchmarks.world_vdm import RECIPE
from muybridge.data.registry import make_source
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.motion import mean_frame_difference, seam_ratio
from muybridge.files import ZOO
from muybridge.library.catalogue import find_lora, find_part
from muybridge.models.latent.space import LatentSpace
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.video_ldm.long_video import interpolate_latents
from muybridge.training.recipe import load_recipe


def clips_of(recipe: str, split: str, count: int) -> list[np.ndarray]:
    """Evenly chosen clips of a recipe's data."""
    source = make_source(load_recipe(RECIPE.with_name(f"{recipe}.yaml")).data, split)
    return [source.clip(int(i)).frames for i in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)]


def decoder(count: int) -> dict[str, Any]:
    """Round trips of training and held-out clips together, and of the held-out ones alone."""
    held_out = clips_of("emoji-video", "validation", count)
    clips = clips_of("emoji-video", "train", count) + held_out
    tuned: Any = load_pipeline("emoji-video")
    plain = LatentSpace.open(find_part("emoji-image/vae"))
    network = PictureFeatures()
    truth = clip_features(network, clips)
    latents = [plain.encode(from_uint8(c)[None])[0] for c in clips]
    half, unseen = len(clips) // 2, len(clips) - len(held_out)
    figures: dict[str, Any] = {
        "clips": len(clips),
        "held-out clips": len(held_out),
        "two halves of the clips": frechet_distance(truth.motion[:half], truth.motion[half:]),
        "encoder the same": tuned.space.identity() == plain.identity(),
    }
    for name, space in (("picture decoder", plain), ("tuned decoder", tuned.space)):
        back = [to_uint8(space.decode(z))[0] for z in latents]
        found = clip_features(network, back)
        pairs = [(b.astype(float), c.astype(float)) for b, c in zip(back, clips, strict=True)]
        errors = np.array([np.abs(b - c).mean() for b, c in pairs])
        changes = np.array([np.abs(np.diff(b, axis=0) - np.diff(c, axis=0)).mean() for b, c in pairs])
        figures[name] = {
            "motion distance": frechet_distance(truth.motion, found.motion),
            "motion distance, held-out": frechet_distance(truth.motion[unseen:], found.motion[unseen:]),
            "appearance distance": frechet_distance(truth.appearance, found.appearance),
            "error of frame differences, grey levels": float(changes.mean()),
            "error of frame differences, grey levels, held-out": float(changes[unseen:].mean()),
            "error, grey levels": float(errors.mean()),
            "error, grey levels, held-out": float(errors[unseen:].mean()),
        }
    for key, kind in (("flicker lowered by", ""), ("flicker lowered by, held-out", ", held-out")):
        old, new = (figures[n][f"motion distance{kind}"] for n in ("picture decoder", "tuned decoder"))
        figures[key] = 1 - new / old
    return figures


def animate(count: int, buckets: tuple[float, ...] = (20.0, 127.0, 235.0)) -> dict[str, Any]:
    pipeline: Any = load_pipeline("emoji-animate")
    clips = clips_of("emoji-animate", "validation", count)
    pictures = torch.stack([from_uint8(c[:1])[:, 0] for c in clips])
    rows: dict[str, Any] = {
        "clips": len(clips),
        "real motion": float(np.mean([mean_frame_difference(c) for c in clips])),
    }
    for bucket in buckets:
        made = pipeline(pictures, seed=0, motion_bucket=bucket, batch_size=4).samples.clamp(-1, 1)
        frames = to_uint8(made)
        rows[f"bucket {bucket:g}"] = {
            "motion, grey levels": float(np.mean([mean_frame_difference(f) for f in frames])),
            "first frame's mean absolute error, of 1": float((made[:, :, 0] - pictures).abs().mean() / 2),
        }
    return rows


def between(count: int) -> dict[str, Any]:
    pipeline: Any = load_pipeline("emoji-between")
    source_clips = clips_of("emoji-between", "validation", count)
    seams, ours, means = [], [], []
    for number, clip in enumerate(source_clips):
        keys = from_uint8(clip[::4][:8])[None]
        truth = from_uint8(clip[:29])
        latents = interpolate_latents(pipeline, pipeline.space.encode(keys)[0], "", number)
        made = pipeline.to_pixels(latents)[0]
        frames = to_uint8(made[None])[0]
        # a seam would lie where a window's inner frames meet its given ends
        seams.append(seam_ratio(frames, [i for i in range(28) if i % 4 in (0, 3)]))
        back = pipeline.to_pixels(pipeline.space.encode(truth[None])[0])[0]
        inner = [i for i in range(29) if i % 4]
        ours.append(float((made - back)[:, inner].abs().mean() / 2))
        blended = torch.stack(
            [back[:, i - i % 4] * (1 - i % 4 / 4) + back[:, i - i % 4 + 4] * (i % 4 / 4) for i in inner], 1
        )
        means.append(float((blended - back[:, inner]).abs().mean() / 2))
    return {
        "clips": len(source_clips),
        "seam ratio of 29 frames": float(np.mean(seams)),
        "inner frames' error, of 1": float(np.mean(ours)),
        "of a linear blend": float(np.mean(means)),
    }


def long_run(frames: int) -> dict[str, float]:
    """Frames put between key frames and decoded, in this process: its peak memory."""
    pipeline: Any = load_pipeline("emoji-between")
    keys = torch.randn(
        1, *pipeline.space.shape(1 + (frames - 1) // 4, 64, 64), generator=torch.Generator().manual_seed(0)
    )
    made = pipeline.to_pixels(interpolate_latents(pipeline, keys, "fox, fluent style", num_inference_steps=4))
    return {"frames": made.shape[2], "peak": peak()}


def long(count: int) -> dict[str, Any]:
    rows = []
    for frames in (25, 101):
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.picture_to_video", "one", "--count", str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return {"runs": rows, "ratio of the peaks": rows[1]["peak"] / rows[0]["peak"]}


def camera(count: int, lora: str = "runs/camera-left/model") -> dict[str, Any]:
    """How far the picture goes with and without a camera LoRA, beside clips under that camera; of unseen pictures."""
    clips = clips_of("emoji-animate", "validation", count)
    pictures = torch.stack([from_uint8(c[:1])[:, 0] for c in clips])
    figures: dict[str, Any] = {"clips": len(clips)}
    for name in ("without it", "with it"):
        pipeline: Any = load_pipeline("emoji-animate")
        if name == "with it":
            pipeline.use_lora(find_lora(lora))
        figures[name] = _drift(list(pipeline(pictures, seed=0, batch_size=4).frames))
    return figures | {"unseen clips under that camera": _drift(clips_of("camera-left", "validation", count))}


def _drift(videos: list[np.ndarray]) -> dict[str, float]:
    """Of the thing in the picture (what is not white): how far its middle goes, and how much its area grows, first to
    last frame."""
    shifts, growths = [], []
    for frames in videos:
        masks = [(f.min(-1) < 240) for f in (frames[0], frames[-1])]
        if min(m.sum() for m in masks) < 30:
            continue
        xs = [np.nonzero(m)[1].mean() for m in masks]
        shifts.append((xs[1] - xs[0]) / frames.shape[2])
        growths.append(masks[1].sum() / masks[0].sum())
    return {
        "drift to the right, of the width": float(np.mean(shifts)),
        "area, last frame over first": float(np.mean(growths)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["decoder", "animate", "between", "long", "camera", "one"])
    parser.add_argument("--count", type=int, default=12)
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(long_run(arguments.count)))
        return
    measures = {"decoder": decoder, "animate": animate, "between": between, "long": long, "camera": camera}
    figures = measures[arguments.what](arguments.count)
    zoo, here = ZOO, Path(__file__).parent
    target = {
        "decoder": zoo / "emoji-video/decoder/figures.json", "animate": zoo / "emoji-animate/figures.json",
        "between": zoo / "emoji-between/figures.json", "long": here / "long_video.json", "camera": here / "camera.json",
    }[arguments.what]  # fmt: skip
    target.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
