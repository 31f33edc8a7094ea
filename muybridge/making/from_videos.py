"""Videos made without training or from other videos, each with the recipe that makes it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from muybridge.configuration import from_mapping
from muybridge.diffusion.samplers import SamplerState
from muybridge.errors import UserError
from muybridge.library.catalogue import find_model, find_part
from muybridge.making.from_words import Made, frames_hash, recipe_base
from muybridge.models.vision.control import Control, open_control_net
from muybridge.models.vision.structure import control_pictures, estimator_named, structure_of
from muybridge.nn.frames import from_uint8
from muybridge.opening.sampling import load_pipeline, load_zero_shot
from muybridge.pipelines.base import VideoOutput, VideoPipeline
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.pipelines.inversion import sample_from
from muybridge.pipelines.redraw import redraw
from muybridge.pipelines.zero_shot import ZeroShotPipeline
from muybridge.systems.control_video.sampling import ControlVideoConfig, control_video
from muybridge.systems.gen1.pipeline import Gen1Pipeline, depth_video
from muybridge.systems.text2video_zero.sampling import ZeroConfig, instruct_video, text_to_video_zero

OnStep = Callable[[SamplerState], None] | None
Frames = np.ndarray
METHODS = ("control-video", "zero")
#: Noise in which a tuned video was found, beside the model that was tuned on it.
INVERSION = "inversion.safetensors"


def open_editor(model: str, command: str, device: str = "cpu", precision: str = "fp32") -> VideoPipeline:
    """The pipeline that a command works with."""
    if command in ("zero", "control", "instruct"):
        return load_zero_shot(model, device, precision)
    return load_pipeline(model, device, precision=precision)


def multiple_of(pipeline: VideoPipeline) -> int:
    """Sides of its videos are multiples of this."""
    network: Any = getattr(pipeline.network, "image", pipeline.network)
    levels = len(getattr(network.config, "block_out_channels", (0,)))
    space = getattr(pipeline, "space", None)
    return int(space.shrink * 2 ** (levels - 1)) if space is not None else 8


def filled(frames: Frames, multiple: int) -> Frames:
    """Repeat the last row and column until both sides are multiples, uint8 [F, H, W, 3]."""
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")


def zero(
    pipeline: ZeroShotPipeline, model: str, prompt: str, seed: int, options: dict[str, Any], settings: dict[str, Any],
    on_step: OnStep = None,
) -> Made:  # fmt: skip
    """Text2Video-Zero. options: fields of ZeroConfig, and "negative"."""
    config, masks = _zero_config(options), None
    if config.background:
        masks = estimator_named("foreground")
    pipeline.negative_prompt = options.get("negative", "")
    out = text_to_video_zero(pipeline, prompt, seed, config, masks, on_step=on_step, **settings)
    return _made(pipeline, model, "zero", settings, prompt, seed, options, out.frames[0])


def _zero_config(options: dict[str, Any]) -> ZeroConfig:
    values = {k: tuple(v) if k == "motion" else v for k, v in options.items() if k != "negative"}
    return from_mapping(ZeroConfig, values, "options")


def controls_of(
    pipeline: ZeroShotPipeline, wanted: Sequence[dict[str, Any]], frames: Frames, cache: Path | None = None
) -> list[Control]:
    """ControlNets and what each is shown of the frames.

    Args:
        wanted: {"structure": an estimator's name, "net": a bundled ControlNet or a folder, "scale": of its residuals} each.

    Raises:
        UserError: an unknown structure, or no ControlNet for it.
    """
    made = []
    for entry in wanted:
        structure = structure_of(estimator_named(entry["structure"]), frames, cache)
        network = open_control_net(find_part(entry["net"]), next(pipeline.network.parameters()).dtype)
        network.to(pipeline.device)
        made.append(Control(network, control_pictures(structure), float(entry["scale"])))
    return made


def control(
    pipeline: ZeroShotPipeline, model: str, source: str, frames: Frames, prompt: str, seed: int, options: dict[str, Any],
    settings: dict[str, Any], on_step: OnStep = None, cache: Path | None = None,
) -> Made:  # fmt: skip
    """A video under the structure of another, by ControlVideo or Text2Video-Zero, at its own size.

    options: "method" (METHODS), "controls" (see controls_of), "negative", and fields of ControlVideoConfig or ZeroConfig
    under "config".
    """
    if options["method"] not in METHODS:
        raise UserError(f"unknown method {options['method']!r}; expected one of {', '.join(METHODS)}")
    given = filled(frames, multiple_of(pipeline))
    size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
    controls = controls_of(pipeline, options["controls"], given, cache)
    pipeline.negative_prompt = options.get("negative", "")
    values = {**settings, **size}
    if options["method"] == "zero":
        with pipeline.controlled(controls):
            out = text_to_video_zero(pipeline, prompt, seed, _zero_config(options["config"]), on_step=on_step, **values)
    else:
        config = from_mapping(ControlVideoConfig, options["config"], "options")
        out = control_video(pipeline, prompt, controls, seed, config, on_step=on_step, **values)
    made = _cropped(out, frames)
    return _made(pipeline, model, "control", values, prompt, seed, options, made, source, frames)


def instruct(
    pipeline: ZeroShotPipeline, model: str, source: str, frames: Frames, prompt: str, seed: int, options: dict[str, Any],
    settings: dict[str, Any], on_step: OnStep = None,
) -> Made:  # fmt: skip
    """Video Instruct-Pix2Pix. options: "image_scale"."""
    video = from_uint8(filled(frames, multiple_of(pipeline)))[None]
    out = instruct_video(pipeline, video, prompt, seed, options["image_scale"], on_step=on_step, **settings)
    return _made(pipeline, model, "instruct", settings, prompt, seed, options, _cropped(out, frames), source, frames)


def edit(
    pipeline: VideoPipeline, model: str, prompt: str, seed: int, options: dict[str, Any], settings: dict[str, Any],
    on_step: OnStep = None,
) -> Made:  # fmt: skip
    """Tune-A-Video: the tuned video under new words. options: "inverted" False starts from the seed's noise instead.

    Raises:
        UserError: a model that was not tuned on a video.
    """
    file = find_model(model) / INVERSION
    if not isinstance(pipeline, InflatedPipeline) or not file.is_file():
        raise UserError(f"{model}: not tuned on a video; make such a model with `muybridge tune VIDEO --caption ...`")
    pipeline.negative_prompt = options.get("negative", "")
    if options["inverted"]:
        noise = load_file(file)["noise"].to(pipeline.device)
        out = sample_from(pipeline, noise, prompt, on_step, **settings)
    else:
        out = pipeline(prompt, seed, on_step=on_step, **settings)
    return _made(pipeline, model, "edit", settings, prompt, seed, options, out.frames[0])


def restyle(
    pipeline: VideoPipeline, model: str, source: str, frames: Frames, prompt: str | None, seed: int,
    options: dict[str, Any], settings: dict[str, Any], on_step: OnStep = None, cache: Path | None = None,
    picture: Frames | None = None,
) -> Made:  # fmt: skip
    """A video with another look.

    options with "strength": SDEdit with any model under words. Otherwise Gen-1: "level", "temporal_scale", "structure",
    and as content the words or `picture` (uint8 [H, W, 3]).

    Raises:
        UserError: a model of another kind.
    """
    given = filled(frames, multiple_of(pipeline))
    if "strength" in options:
        out = redraw(pipeline, from_uint8(given)[None], prompt, options["strength"], seed, on_step, **settings)
    else:
        if not isinstance(pipeline, Gen1Pipeline):
            raise UserError(
                f"{model}: not a model that tells structure from content; give --strength to redraw with it"
            )
        depth = depth_video(structure_of(estimator_named(options["structure"]), given, cache))
        content: Any = prompt if picture is None else from_uint8(picture[None])[None, :, 0]
        out = pipeline(
            depth, content, seed, level=options["level"], temporal_scale=options["temporal_scale"], on_step=on_step,
            **settings,
        )  # fmt: skip
    return _made(pipeline, model, "restyle", settings, prompt, seed, options, _cropped(out, frames), source, frames)


def _cropped(out: VideoOutput, frames: Frames) -> Frames:
    return out.frames[0][:, : frames.shape[1], : frames.shape[2]]


def _made(
    pipeline: VideoPipeline, model: str, command: str, settings: dict[str, Any], prompt: str | None, seed: int,
    options: dict[str, Any], made: Frames, source: str = "", given: Frames | None = None,
) -> Made:  # fmt: skip
    recipe = recipe_base(pipeline, model, command, settings) | {
        "prompt": prompt,
        "seed": seed,
        "options": options,
        "given_settings": settings,
        "frames_sha256": frames_hash(made),
    }
    if given is not None:
        recipe |= {"source": source, "source_sha256": frames_hash(given)}
    return made, recipe


def make_again(
    recipe: dict[str, Any],
    pipeline: VideoPipeline,
    read: Callable[[str], Frames],
    model: str,
    on_step: OnStep = None,
) -> Frames:
    """The video of a recipe of this module; uint8 [F, H, W, 3].

    Raises:
        UserError: the source has changed.
    """
    functions: dict[str, Callable[..., Made]] = {
        "zero": zero,
        "control": control,
        "instruct": instruct,
        "edit": edit,
        "restyle": restyle,
    }
    source: list[Any] = []
    if "source" in recipe:
        frames = read(recipe["source"])
        if frames_hash(frames) != recipe["source_sha256"]:
            raise UserError(f"{recipe['source']} has changed since this video was made from it")
        source = [recipe["source"], frames]
    options = recipe["options"]
    more = {"picture": read(options["picture"])[0]} if options.get("picture") else {}
    function = functions[recipe["command"]]
    arguments = (*source, recipe["prompt"], recipe["seed"], options, recipe["given_settings"], on_step)
    return function(pipeline, model, *arguments, **more)[0]


EDITS = ("zero", "control", "instruct", "edit", "restyle")


def config_values(config: Any) -> dict[str, Any]:
    """A configuration as a recipe keeps it."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def save_inversion(noise: torch.Tensor, folder: Path) -> None:
    """Keep the noise a tuned video was found in beside its model."""
    from safetensors.torch import save_file

    save_file({"noise": noise.contiguous()}, folder / INVERSION)
