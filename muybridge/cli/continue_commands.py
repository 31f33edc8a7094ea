"""extend and interpolate: a video goes on, or gets frames between its frames, with any model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    Device,
    Guidance,
    MakerModel,
    Method,
    Output,
    Precision,
    SamplerName,
    Seed,
    Steps,
    Upscale,
    Weight,
    enlarge,
    given_settings,
    open_checked,
)
from muybridge.errors import UserError


def register(app: typer.Typer) -> None:
    for function in (extend, interpolate):
        app.command()(function)


@command
def extend(
    video: Annotated[Path, typer.Argument(help="The video to go on with.")],
    output: Output = Path("extended.mp4"),
    prompt: Annotated[str | None, typer.Option(help="What the new frames show.")] = None,
    add_frames: Annotated[int, typer.Option(help="Frames to append.")] = 8,
    context_frames: Annotated[
        int | None, typer.Option(help="Last frames each block knows; half a block by default.")
    ] = None,
    method: Method = "reconstruction",
    weight: Weight = 4.0,
    model: MakerModel = "",
    seed: Seed = 0,
    steps: Steps = None,
    sampler: SamplerName = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Make a video longer with any model, block by block, each knowing the frames before it.

    [bold]muybridge extend star.mp4 --prompt "a blue star moving up" --add-frames 12 -o longer.mp4[/bold]
    """
    options = {"add_frames": add_frames, "context_frames": context_frames, "method": method, "weight": weight}
    settings = given_settings(num_inference_steps=steps, sampler=sampler, guidance_scale=guidance_scale)
    _continue("extend", video, output, prompt, seed, options, settings, model, upscale, device, precision)


@command
def interpolate(
    video: Annotated[Path, typer.Argument(help="The video to put frames into.")],
    output: Output = Path("interpolated.mp4"),
    prompt: Annotated[str | None, typer.Option(help="What the video shows.")] = None,
    factor: Annotated[int, typer.Option(help="2, 4, 8, ...: how many times the frame rate.")] = 2,
    method: Method = "reconstruction",
    weight: Weight = 4.0,
    model: MakerModel = "",
    seed: Seed = 0,
    steps: Steps = None,
    sampler: SamplerName = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Put frames between the frames of a video with any model.

    [bold]muybridge interpolate star.mp4 --prompt "a blue star moving up" --factor 2 -o smooth.mp4[/bold]
    """
    options = {"factor": factor, "method": method, "weight": weight}
    settings = given_settings(num_inference_steps=steps, sampler=sampler, guidance_scale=guidance_scale)
    _continue("interpolate", video, output, prompt, seed, options, settings, model, upscale, device, precision)


def _maker_of(video: Path) -> str:
    """The model that a video was made with from words, if it is still there."""
    from muybridge.data.video_io import read_recipe
    from muybridge.library.catalogue import find_model

    recipe = read_recipe(video)
    if recipe.get("command") in ("generate", "extend", "interpolate"):
        with contextlib.suppress(UserError):
            find_model(recipe["model"])
            return str(recipe["model"])
    return "world-vdm"


def _continue(
    verb: str,
    video: Path,
    output: Path,
    prompt: str | None,
    seed: int,
    options: dict[str, Any],
    settings: dict[str, Any],
    model: str,
    upscale: int,
    device: str,
    precision: str,
) -> None:
    from muybridge.data.video_io import read_video, write_video

    clip = read_video(video)
    model = model or _maker_of(video)
    pipeline = open_checked(model, settings, [output], upscale, device, precision)

    from muybridge.making.from_words import continue_video
    from muybridge.pipelines.continuation import at_model_size

    frames = at_model_size(pipeline, clip.frames)
    with steps_bar("sampling", pipeline.settings(**settings).num_inference_steps) as advance:
        made, recipe = continue_video(
            pipeline, model, verb, str(video.resolve()), frames, prompt, seed, options, settings, advance
        )
    fps = clip.fps * (options.get("factor", 1))
    recipe["sampling"]["fps"] = fps
    write_video(enlarge(made, upscale), output, fps, {**recipe, "upscale": upscale})
    typer.echo(f"{output}: {len(made)} frames at {fps:g} fps")
