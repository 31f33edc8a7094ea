"""Making a video with everything needed to make it again, and making it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from muybridge import __version__
from muybridge.diffusion.samplers import SamplerState
from muybridge.errors import UserError
from muybridge.systems.continuation import CONTINUATION_SAMPLER, at_model_size, extend_video, interpolate_video
from muybridge.systems.loading import find_model, model_hash
from muybridge.systems.pipeline import TextToVideoPipeline

Made = tuple[np.ndarray, dict[str, Any]]


def frames_hash(frames: np.ndarray) -> str:
    """SHA-256 of the frames before encoding."""
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def make_videos(
    pipeline: TextToVideoPipeline,
    model: str,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: dict[str, Any],
    batch_size: int = 1,
    on_step: Callable[[SamplerState], None] | None = None,
) -> list[Made]:
    """Sample prompts; returns each video with its recipe."""
    frames = pipeline(list(prompts), seed=list(seeds), batch_size=batch_size, on_step=on_step, **settings).frames
    base = recipe_base(pipeline, model, "generate", settings)
    return [
        (video, {**base, "prompt": prompt, "seed": seed, "frames_sha256": frames_hash(video)})
        for video, prompt, seed in zip(frames, prompts, seeds, strict=True)
    ]


def continue_video(
    pipeline: TextToVideoPipeline,
    model: str,
    command: str,
    source: str,
    frames: np.ndarray,
    prompt: str | None,
    seed: int,
    options: dict[str, Any],
    settings: dict[str, Any],
    on_step: Callable[[SamplerState], None] | None = None,
) -> Made:
    """Extend or interpolate a video; its recipe names the source by path and by hash."""
    settings = {"sampler": CONTINUATION_SAMPLER, **settings}
    functions: dict[str, Callable[..., np.ndarray]] = {"extend": extend_video, "interpolate": interpolate_video}
    out = functions[command](pipeline, frames, prompt, seed=seed, on_step=on_step, **options, **settings)
    recipe = recipe_base(pipeline, model, command, settings) | {
        "prompt": prompt,
        "seed": seed,
        "options": options,
        "source": source,
        "source_sha256": frames_hash(frames),
        "frames_sha256": frames_hash(out),
    }
    return out, recipe


def recipe_base(pipeline: TextToVideoPipeline, model: str, command: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a recipe says of version, command, model and settings."""
    return {
        "muybridge": __version__,
        "command": command,
        "model": model,
        "model_hash": model_hash(find_model(model)),
        "sampling": asdict(pipeline.settings(**settings)),
    }


def replay(
    recipe: dict[str, Any],
    pipeline: TextToVideoPipeline,
    read: Callable[[str], np.ndarray],
    model: str | None = None,
    on_step: Callable[[SamplerState], None] | None = None,
) -> np.ndarray:
    """Make the video of a recipe again; uint8 [F, H, W, 3].

    Args:
        read: opens the source video of an extension.
        model: use this model instead of the one named.

    Raises:
        UserError: the model or the source is not the one the recipe was made with.
    """
    name = model or recipe["model"]
    if model_hash(find_model(name)) != recipe["model_hash"]:
        raise UserError(f"{name} is not the model this video was made with (its hash was {recipe['model_hash']})")
    if recipe["command"] == "generate":
        made = pipeline(recipe["prompt"], seed=recipe["seed"], on_step=on_step, **recipe["sampling"])
        return made.frames[0]
    source = at_model_size(pipeline, read(recipe["source"]))
    if frames_hash(source) != recipe["source_sha256"]:
        raise UserError(f"{recipe['source']} has changed since this video was made from it")
    settings = recipe["sampling"]
    arguments = (recipe["prompt"], recipe["seed"], recipe["options"], settings, on_step)
    return continue_video(pipeline, name, recipe["command"], recipe["source"], source, *arguments)[0]
