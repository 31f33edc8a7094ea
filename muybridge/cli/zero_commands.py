"""zero and control: video from an image model without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    Device,
    Fps,
    Guidance,
    Height,
    Output,
    Precision,
    Seed,
    Steps,
    Upscale,
    Width,
    check_outputs,
    enlarge,
    given_settings,
)
from muybridge.errors import UserError

ImageModel = Annotated[str, typer.Option("--model", help="An image model: bundled, or a Stable Diffusion folder.")]
Negative = Annotated[str, typer.Option(help="What the video shall not show.")]
MaxFrames = Annotated[int, typer.Option(help="Take at most this many frames of the video; 0 takes all.")]


def register(app: typer.Typer) -> None:
    for function in (zero, control, instruct):
        app.command()(function)


@command
def zero(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    output: Output = Path("zero.mp4"),
    model: ImageModel = "emoji-image",
    num_frames: Annotated[int, typer.Option(help="Any number; memory does not grow with it.")] = 8,
    motion: Annotated[
        tuple[float, float], typer.Option(help="Pixels a frame, right and down, of a 512-pixel picture.")
    ] = (-12.0, -12.0),
    attention: Annotated[str, typer.Option(help="Whose tokens frames attend to: first, own, full.")] = "first",
    background: Annotated[
        float, typer.Option(help="Share of the first frame's background in the others, 0 is off.")
    ] = 0.0,
    chunk: Annotated[int, typer.Option(help="Frames of one network call beside the first.")] = 7,
    negative: Negative = "",
    seed: Seed = 0,
    height: Height = None,
    width: Width = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    fps: Fps = 4.0,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Make a video from words with an image model, without training (Text2Video-Zero).

    [bold]muybridge zero "fox, fluent style" -o fox.mp4 --model ~/models/stable-diffusion-v1-5[/bold]
    """
    check_outputs(model, [output], upscale)
    from muybridge.making.from_videos import config_values, open_editor
    from muybridge.making.from_videos import zero as make
    from muybridge.systems.text2video_zero.sampling import ZeroConfig, network_steps

    # the paper's warp moves the picture left and up for positive values
    config = ZeroConfig((-motion[0], -motion[1]), attention=attention, background=background, chunk=chunk)
    settings = given_settings(
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        fps=fps,
    )
    pipeline: Any = open_editor(model, "zero", device, precision)
    wanted = pipeline.settings(**settings)
    options = {**config_values(config), "negative": negative}
    with steps_bar("sampling", network_steps(config, num_frames, wanted.num_inference_steps)) as advance:
        frames, recipe = make(pipeline, model, prompt, seed, options, settings, advance)
    write(frames, output, wanted.fps, recipe, upscale)


@command
def control(
    video: Annotated[Path, typer.Argument(help="The video whose structure is kept.")],
    prompt: Annotated[str, typer.Argument(help="What the new video shows.")],
    output: Output = Path("controlled.mp4"),
    control: Annotated[
        list[str], typer.Option("--control", help="edges, soft_edges, depth or pose; NAME:SCALE; may be repeated.")
    ] = ["edges"],  # noqa: B006 (typer reads the default, nothing writes to it)
    control_net: Annotated[
        list[str], typer.Option(help="A ControlNet's folder for each --control; bundled ones for edges and depth.")
    ] = [],  # noqa: B006
    method: Annotated[
        str, typer.Option(help="control-video (frames see all frames) or zero (the first).")
    ] = "control-video",
    smooth: Annotated[str, typer.Option(help="learned, flow, linear, a file of RIFE's weights, or none.")] = "learned",
    model: ImageModel = "emoji-image",
    negative: Negative = "",
    max_frames: MaxFrames = 0,
    seed: Seed = 0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Give a video's structure another content, without training (ControlVideo), at its own size, length and rate.

    [bold]muybridge control walk.mp4 "astronaut, fluent style" --control depth -o astronaut.mp4[/bold]
    """
    check_outputs(model, [output], upscale)
    from muybridge.data.folder import cache_folder
    from muybridge.library.catalogue import find_part, sampling_of
    from muybridge.making.from_videos import config_values, open_editor
    from muybridge.making.from_videos import control as make
    from muybridge.systems.control_video.sampling import ControlVideoConfig, control_video_steps
    from muybridge.systems.text2video_zero.sampling import ZeroConfig, network_steps

    frames, fps, source = read_source(video, max_frames)
    wanted = parse_controls(control, control_net)
    config: Any = ZeroConfig() if method == "zero" else ControlVideoConfig(
        smooth_at=None if smooth == "none" else ControlVideoConfig.smooth_at, interpolator="linear" if smooth == "none" else smooth
    )  # fmt: skip
    options = {"method": method, "controls": wanted, "negative": negative, "config": config_values(config)}
    if guidance_scale is None:
        # much guidance outvotes the structure: ControlNets of ours say which they were made for
        advised = [sampling_of(find_part(c["net"])).get("guidance_scale") for c in wanted]
        guidance_scale = min((scale for scale in advised if scale is not None), default=None)
    settings = given_settings(num_inference_steps=steps, guidance_scale=guidance_scale, fps=fps)
    pipeline: Any = open_editor(model, "control", device, precision)
    count = pipeline.settings(**settings).num_inference_steps
    total = network_steps(config, len(frames), count, True) if method == "zero" else control_video_steps(count)
    with steps_bar("sampling", total) as advance:
        made, recipe = make(
            pipeline, model, source, frames, prompt, seed, options, settings, advance, cache_folder() / "structure"
        )
    write(made, output, fps, recipe, upscale)


@command
def instruct(
    video: Annotated[Path, typer.Argument(help="The video to edit.")],
    instruction: Annotated[str, typer.Argument(help="What to change, as in 'make it snow'.")],
    model: Annotated[str, typer.Option(help="An InstructPix2Pix folder.")],
    output: Output = Path("instructed.mp4"),
    image_scale: Annotated[float, typer.Option(help="Guidance towards the given frames.")] = 1.0,
    max_frames: MaxFrames = 0,
    seed: Seed = 0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Edit a video by an instruction with a user's InstructPix2Pix model (Text2Video-Zero)."""
    check_outputs(model, [output], upscale)
    from muybridge.making.from_videos import instruct as make
    from muybridge.making.from_videos import open_editor
    from muybridge.systems.text2video_zero.sampling import ZeroConfig, network_steps

    frames, fps, source = read_source(video, max_frames)
    settings = given_settings(num_inference_steps=steps, guidance_scale=guidance_scale, fps=fps)
    pipeline: Any = open_editor(model, "instruct", device, precision)
    total = network_steps(ZeroConfig(), len(frames), pipeline.settings(**settings).num_inference_steps, True)
    with steps_bar("sampling", total) as advance:
        made, recipe = make(
            pipeline, model, source, frames, instruction, seed, {"image_scale": image_scale}, settings, advance
        )
    write(made, output, fps, recipe, upscale)


# --- shared with the commands that edit -----------------------------------------------------------------------------


def read_source(video: Path, max_frames: int = 0) -> tuple[Any, float, str]:
    """(frames uint8 [F, H, W, 3], fps, what a recipe calls the source)."""
    from muybridge.data.video_io import read_video

    if max_frames < 0:
        raise UserError(f"--max-frames must be 0 (all) or more, got {max_frames}")
    clip = read_video(video, max_frames or None)
    suffix = f"#{max_frames}" if max_frames else ""
    return clip.frames, clip.fps, f"{video.resolve()}{suffix}"


def parse_controls(control: list[str], nets: list[str]) -> list[dict[str, Any]]:
    """`--control depth:0.5 --control-net FOLDER` as a recipe keeps them."""
    from muybridge.library.catalogue import find_part
    from muybridge.models.vision.structure import ESTIMATORS

    if len(nets) not in (0, len(control)):
        raise UserError(f"{len(control)} --control but {len(nets)} --control-net: give one for each, or none")
    out = []
    for i, text in enumerate(control):
        name, _, scale = text.partition(":")
        if name not in ESTIMATORS:
            raise UserError(f"--control: unknown {name!r}; expected one of {', '.join(ESTIMATORS)}")
        try:
            value = float(scale or 1)
        except ValueError:
            raise UserError(f"--control {text}: expected NAME or NAME:SCALE with a number") from None
        net = nets[i] if nets else {"edges": "emoji-edges", "depth": "emoji-depth"}.get(name, "")
        if not net:
            raise UserError(f"--control {name}: no ControlNet for it is bundled; give one with --control-net FOLDER")
        find_part(net)
        out.append({"structure": name, "net": net, "scale": value})
    return out


def write(frames: Any, output: Path, fps: float, recipe: dict[str, Any], upscale: int) -> None:
    """Write a video with its recipe and say so."""
    from muybridge.data.video_io import write_video

    write_video(enlarge(frames, upscale), output, fps, {**recipe, "upscale": upscale})
    typer.echo(f"{output}: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} at {fps:g} fps")
