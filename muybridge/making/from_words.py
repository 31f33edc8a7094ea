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
from muybridge.library.catalogue import find_model, model_hash
from muybridge.nn.frames import from_uint8, to_uint8
from muybridge.pipelines.base import VideoPipeline
from muybridge.pipelines.continuation import CONTINUATION_SAMPLER, at_model_size, extend_video, interpolate_video
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.systems.stable_video.pipeline import ImageToVideoPipeline
from muybridge.systems.video_ldm.long_video import interpolate_latents

Made = tuple[np.ndarray, dict[str, Any]]


def frames_hash(frames: np.ndarray) -> str:
    """SHA-256 of the frames before encoding."""
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def make_videos(
    pipeline: VideoPipeline,
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
    pipeline: VideoPipeline,
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


def bring_to_life(
    pipeline: Any,
    model: str,
    source: str,
    picture: np.ndarray,
    seed: int,
    options: dict[str, Any],
    settings: dict[str, Any],
    on_step: Callable[[SamplerState], None] | None = None,
) -> Made:
    """A video of a picture, uint8 [H, W, 3] of the model's size.

    Raises:
        UserError: a model of another kind.
    """
    if not isinstance(pipeline, ImageToVideoPipeline):
        raise UserError(f"{model} makes videos from words, not from a picture")
    pictures = from_uint8(picture[None])[None, :, 0]
    frames = pipeline(pictures, seed=seed, on_step=on_step, **options, **settings).frames[0]
    return frames, _with_source(pipeline, model, "animate", settings, source, picture[None], seed, options, frames)


def put_between(
    pipeline: Any,
    model: str,
    source: str,
    frames: np.ndarray,
    prompt: str,
    seed: int,
    rounds: int,
    settings: dict[str, Any],
    on_step: Callable[[SamplerState], None] | None = None,
) -> Made:
    """Learned frames between frames, uint8 [F, H, W, 3]: F become 4F - 3, once or twice; the given ones come back."""
    if not isinstance(pipeline, InflatedPipeline):
        raise UserError(f"{model} was not trained to put frames between others; `interpolate` works with any model")
    latents = pipeline.space.encode(from_uint8(frames)[None])[0]
    for regime in range(rounds):
        latents = interpolate_latents(pipeline, latents, prompt, seed, regime, on_step=on_step, **settings)
    made = to_uint8(pipeline.to_pixels(latents))[0]
    made[:: 4**rounds] = frames
    options = {"rounds": rounds, "prompt": prompt}
    return made, _with_source(pipeline, model, "upsample-fps", settings, source, frames, seed, options, made)


def _with_source(
    pipeline: VideoPipeline,
    model: str,
    command: str,
    settings: dict[str, Any],
    source: str,
    given: np.ndarray,
    seed: int,
    options: dict[str, Any],
    made: np.ndarray,
) -> dict[str, Any]:
    return recipe_base(pipeline, model, command, settings) | {
        "seed": seed,
        "options": options,
        "source": source,
        "source_sha256": frames_hash(given),
        "frames_sha256": frames_hash(made),
    }


def recipe_base(pipeline: VideoPipeline, model: str, command: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a recipe says of version, command, model and settings."""
    base: dict[str, Any] = {
        "muybridge": __version__,
        "command": command,
        "model": model,
        "model_hash": model_hash(find_model(model)),
        "sampling": asdict(pipeline.settings(**settings)),
    }
    if pipeline.loras:
        base["lora"] = pipeline.loras
    if pipeline.precision != "fp32":
        base["precision"] = pipeline.precision
    if pipeline.swapped:
        base |= {"picture": pipeline.swapped, "picture_hash": model_hash(find_model(pipeline.swapped))}
    return base


def check_model(recipe: dict[str, Any], name: str) -> None:
    """Refuse a model that is not the one a recipe was made with.

    Raises:
        UserError: another hash.
    """
    if model_hash(find_model(name)) != recipe["model_hash"]:
        raise UserError(f"{name} is not the model this video was made with (its hash was {recipe['model_hash']})")


def replay(
    recipe: dict[str, Any],
    pipeline: VideoPipeline,
    read: Callable[[str], np.ndarray],
    model: str | None = None,
    on_step: Callable[[SamplerState], None] | None = None,
) -> np.ndarray:
    """Make the video of a recipe again; uint8 [F, H, W, 3].

    Args:
        read: opens the source: a video, or the picture that was animated, at the model's size.
        model: use this model instead of the one named.

    Raises:
        UserError: the model or the source is not the one the recipe was made with.
    """
    name = model or recipe["model"]
    check_model(recipe, name)
    swapped = recipe.get("picture", "")
    if swapped and model_hash(find_model(swapped)) != recipe["picture_hash"]:
        raise UserError(f"{swapped} is not the picture model this video was made with")
    for entry in recipe.get("lora", []):
        if pipeline.use_lora(entry["file"], entry["scale"])["sha256"] != entry["sha256"]:
            raise UserError(f"{entry['file']} has changed since this video was made with it")
    if recipe["command"] == "generate":
        made = pipeline(recipe["prompt"], seed=recipe["seed"], on_step=on_step, **recipe["sampling"])
        return made.frames[0]
    source, settings = at_model_size(pipeline, read(recipe["source"])), recipe["sampling"]
    if frames_hash(source) != recipe["source_sha256"]:
        raise UserError(f"{recipe['source']} has changed since this video was made from it")
    origin, seed, options = recipe["source"], recipe["seed"], recipe["options"]
    if recipe["command"] == "animate":
        return bring_to_life(pipeline, name, origin, source[0], seed, options, settings, on_step)[0]
    if recipe["command"] == "upsample-fps":
        steps, prompt = {"num_inference_steps": settings["num_inference_steps"]}, options["prompt"]
        return put_between(pipeline, name, origin, source, prompt, seed, options["rounds"], steps, on_step)[0]
    arguments = (recipe["prompt"], recipe["seed"], recipe["options"], settings, on_step)
    return continue_video(pipeline, name, recipe["command"], recipe["source"], source, *arguments)[0]
