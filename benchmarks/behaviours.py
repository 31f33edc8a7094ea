"""What the papers say that their parts do, on models that train in minutes: `python -m benchmarks.behaviours [NAME]`.

Three seeds each, with their spread; what does not come out is written down as it is. Video Diffusion Models (spec 02):
joint, motion, prediction. Imagen Video (spec 03): augmentation, colour, flicker, oscillating.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.world_vdm import prompt_of, score, triples_of
from muybridge.data.registry import make_source
from muybridge.diffusion.guidance import oscillating_weights
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.judge import judge
from muybridge.evaluation.motion import psnr
from muybridge.files import write_json
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import extend_video
from muybridge.training.recipe import Recipe, TrainingConfig, load_recipe
from muybridge.training.trainer import Trainer

SEEDS = (0, 1, 2)
FRAMES, SIDE = 8, 16
WORLD = {
    "source": "world", "height": SIDE, "width": SIDE, "num_frames": FRAMES, "fps": 8.0, "num_clips": 8000,
    "backgrounds": ["dark"], "pans": ["none"], "two_things": 0.0, "sizes": ["large"],
    "motions": ["left", "right", "up", "down"],
}  # fmt: skip
UNET = {
    "type": "unet3d", "sample_size": SIDE, "base_channels": 32, "channel_multipliers": [1, 2], "blocks_per_level": 1,
    "attention_resolutions": [8, 16], "attention_head_dim": 16, "norm_groups": 8, "embedding_dim": 64,
    "position": "shaw", "max_frames": 16,
}  # fmt: skip
SPATIAL = {"kind": "spatial", "num_frames": FRAMES, "height": SIDE, "width": SIDE, "fps": 8, "factor": 2, "steps": 16}


def trained(name: str, system: str, steps: int, seed: int, model: dict[str, Any], **diffusion: Any) -> Trainer:
    """A run of a toy recipe, to its end; no words."""
    recipe = Recipe(
        name=name, system=system, seed=seed, model={**UNET, **model}, data=dict(WORLD), text=None, diffusion=diffusion,
        training=TrainingConfig(
            steps=steps, batch_size=8, optimizer="muon", learning_rate=3e-3, betas=(0.9, 0.99), warmup_steps=20,
            decay="tail", ema=0.99, checkpoint_every=steps, validate_every=steps, validation_clips=64, sample_every=0,
            log_every=steps, threads=torch.get_num_threads(),
        ),
        sampling={"num_inference_steps": 16, "num_frames": FRAMES, "height": SIDE, "width": SIDE, "sampler": "ddim"},
    )  # fmt: skip
    trainer = Trainer(recipe, Path(tempfile.mkdtemp(prefix=f"{name}-")) / "run")
    trainer.run()
    return trainer


@cache
def held_out(count: int) -> torch.Tensor:
    """Clips [N, 3, F, H, W] of the validation split."""
    source = make_source(WORLD, "validation")
    return torch.stack([from_uint8(source.clip(i).frames) for i in range(count)])


def pipeline_of(trainer: Trainer) -> Any:
    return load_pipeline(str(trainer.folder / "model"))


# --- Video Diffusion Models -----------------------------------------------------------------------------------------


@cache
def unconditional(seed: int, steps: int, stills: int) -> Trainer:
    return trained(f"vdm-{stills}-{seed}", "vdm", steps, seed, {}, images_per_video=stills)


def joint(seed: int, steps: int) -> dict[str, float]:
    """B2: 0 and 4 stills beside each clip at equal numbers of clips; distances of 128 samples to true clips."""
    network, out = PictureFeatures(), {}
    true = clip_features(network, list(to_uint8(held_out(256))))
    for stills in (0, 4):
        made = pipeline_of(unconditional(seed, steps, stills))([None] * 128, seed=1000 * seed, batch_size=32).frames
        features = clip_features(network, list(made))
        for name in ("appearance", "motion"):
            out[f"{name} distance, {stills} stills"] = frechet_distance(getattr(true, name), getattr(features, name))
    return out


def motion(seed: int, steps: int) -> dict[str, float]:
    """B3: how far centres stray from constant velocity, in pixels, with temporal attention and with its output zero."""
    pipeline, out = pipeline_of(unconditional(seed, steps, 4)), {}
    for name in ("with", "without"):
        if name == "without":
            for part, module in pipeline.network.named_modules():
                if (
                    "temporal" in part
                    and isinstance(module, nn.Linear)
                    and part.endswith(("to_out", "to_out.0", "out"))
                ):
                    nn.init.zeros_(module.weight)
        made = pipeline([None] * 64, seed=1000 * seed, batch_size=32).frames
        out[f"{name} temporal attention"] = float(np.mean([_straying(v) for v in made]))
    return out


def _straying(frames: np.ndarray) -> float:
    """Root mean square of what a line through the centres of the lit pixels leaves, pixels."""
    light = frames.astype(float).max(-1)
    light = np.where(light > light.mean() + light.std(), light, 0) + 1e-6
    y, x = np.mgrid[: light.shape[1], : light.shape[2]]
    centres = np.stack([(light * a).sum((1, 2)) / light.sum((1, 2)) for a in (x, y)], 1)
    times = np.arange(len(frames))
    rest = centres - np.stack([np.polyval(np.polyfit(times, c, 1), times) for c in centres.T], 1)
    return float(np.sqrt(np.square(rest).sum(1).mean()))


def prediction(seed: int, steps: int) -> dict[str, float]:
    """B4: the second frame from the first, against showing the first again; PSNR over 32 clips."""
    pipeline, out = pipeline_of(unconditional(seed, steps, 4)), {"made": [], "copied": []}
    for i, clip in enumerate(to_uint8(held_out(32))):
        made = extend_video(pipeline, clip[:1], None, FRAMES - 1, seed=i, context_frames=1)
        out["made"].append(psnr(made[1], clip[1]))
        out["copied"].append(psnr(clip[0], clip[1]))
    return {name: float(np.mean(v)) for name, v in out.items()}


# --- Imagen Video ---------------------------------------------------------------------------------------------------


@cache
def enlarging(seed: int, steps: int, temporal: str = "convolution", predicts: str = "v_prediction") -> Trainer:
    """A spatial stage; temporal "" is one that sees every frame alone."""
    model = {"attention_resolutions": [], "temporal": temporal or "attention", "prediction_type": predicts}
    return trained(f"ssr-{temporal}-{predicts}-{seed}", "imagen_video", steps, seed, model, stage=SPATIAL)


def _raised(pipeline: Any, small: torch.Tensor, seed: int, snr: float = 5.0) -> torch.Tensor:
    pipeline.stage = replace(pipeline.stage, augmentation_snr=snr)
    made: torch.Tensor = pipeline.raise_video(small, [None] * len(small), seed=seed).samples
    return made.clamp(-1, 1)


def augmentation(seed: int, steps: int) -> dict[str, float]:
    """B1: error (RMSE, grey levels) of 32 clips raised from clean and from blurred and noised small ones, with the
    given video taken as it is (SNR 10,000) and noised to 5 and 3."""
    pipeline, true = pipeline_of(enlarging(seed, steps)), held_out(32)
    small = torch.nn.functional.avg_pool3d(true, (1, 2, 2))
    noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(seed))
    worn = (torch.nn.functional.avg_pool3d(small, (1, 3, 3), 1, (0, 1, 1)) + 0.15 * noise).clamp(-1, 1)
    return {
        f"{name}, SNR {snr:g}": float((_raised(pipeline, given, seed, snr) - true).square().mean().sqrt() * 127.5)
        for name, given in (("clean", small), ("worn", worn))
        for snr in (10_000.0, 5.0, 3.0)
    }


def colour(seed: int, steps: int) -> dict[str, float]:
    """B2: mean over frames of how far a frame's mean colour is from the first's, grey levels, for v and eps; beside it
    that of the true clips."""
    true = held_out(32)
    small = torch.nn.functional.avg_pool3d(true, (1, 2, 2))

    def drift(video: torch.Tensor) -> float:
        means = video.mean((3, 4))
        return float((means - means[:, :, :1]).abs().mean() * 127.5)

    made = {
        p: _raised(pipeline_of(enlarging(seed, steps, predicts=p)), small, seed) for p in ("v_prediction", "epsilon")
    }
    return {"true": drift(true), **{name: drift(video) for name, video in made.items()}}


def flicker(seed: int, steps: int) -> dict[str, float]:
    """B3: mean change from frame to frame of what a 3 x 3 box leaves of 32 raised clips, less the true clips' own,
    grey levels; temporal convolution against every frame alone."""
    true = held_out(32)
    small = torch.nn.functional.avg_pool3d(true, (1, 2, 2))

    def trembling(video: torch.Tensor) -> float:
        fine = np.stack([[f - cv2.blur(f, (3, 3)) for f in clip] for clip in to_uint8(video).astype(np.float32)])
        return float(np.abs(np.diff(fine, axis=1)).mean())

    out = {"true": trembling(true)}
    for name in ("convolution", ""):
        made = _raised(pipeline_of(enlarging(seed, steps, name)), small, seed)
        out[name or "every frame alone"] = trembling(made)
    return out


def oscillating(seed: int, steps: int) -> dict[str, float]:
    """B4: guidance 16 throughout, and 16 and 2 in turn after a tenth, on world-vdm without a threshold: the share of
    saturated values, and what the judge says of 32 videos."""
    pipeline = load_pipeline("world-vdm")
    source: Any = make_source(load_recipe(Path(__file__).parent.parent / "recipes" / "world-vdm.yaml").data)
    triples, count = triples_of(source)[0][:32], 24
    lams, out = pipeline.levels(count)[:-1], {}
    for name, scales in (
        ("constant", [16.0] * count), ("oscillating", oscillating_weights(count, 16.0, 2.0, round(count / 10)))
    ):  # fmt: skip
        table = torch.tensor(scales)

        def at(lam: torch.Tensor, table: torch.Tensor = table) -> torch.Tensor:
            return table[(lam.double().reshape(-1, 1) - lams).abs().argmin(1)].to(lam)

        made = pipeline(
            [prompt_of(t) for t in triples], seed=1000 * seed, batch_size=8, guidance=at, threshold="static",
            num_inference_steps=count,
        )  # fmt: skip
        out[f"{name}: saturated"] = float((made.samples.abs() > 0.98).float().mean())
        out[f"{name}: all right"] = score([judge(v) for v in made.frames], triples)["all"]
    return out


BEHAVIOURS: dict[str, Callable[[int, int], dict[str, float]]] = {
    f.__name__: f for f in (joint, motion, prediction, augmentation, colour, flicker, oscillating)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BEHAVIOURS)}; all by default")
    parser.add_argument("--steps", type=int, default=600, help="of each training run")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "behaviours.json")
    arguments = parser.parse_args()
    figures = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.names or BEHAVIOURS:
        rows = [BEHAVIOURS[name](seed, arguments.steps) for seed in SEEDS[: arguments.seeds]]
        told = BEHAVIOURS[name].__doc__ or ""
        figures[name] = {"what": " ".join(told.split()), "steps": arguments.steps} | {
            key: {"mean": float(np.mean([r[key] for r in rows])), "seeds": [r[key] for r in rows]} for key in rows[0]
        }
        print(name, json.dumps(figures[name], indent=1), flush=True)
        write_json(arguments.output, figures)


if __name__ == "__main__":
    main()
