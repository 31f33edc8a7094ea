"""animate: a picture brought to life. upsample-fps: learned frames between frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    ContextScale,
    Device,
    Fps,
    Guidance,
    GuidanceEnd,
    GuidanceStart,
    Lora,
    NumFrames,
    Output,
    Precision,
    Seed,
    Steps,
    Upscale,
    check_outputs,
    enlarge,
    given_settings,
    use_loras,
)
from muybridge.errors import UserError


def register(app: typer.Typer) -> None:
    app.command()(animate)
    app.command("upsample-fps")(upsample_fps)


@command
def animate(
    image: Annotated[Path, typer.Argument(help="A picture (.png, .jpg, .webp), or a video: its first frame.")],
    output: Output = Path("alive.mp4"),
    model: Annotated[str, typer.Option(help="An image-to-video model: bundled, or a saved folder.")] = "emoji-animate",
    motion: Annotated[
        float, typer.Option(help="0: as still as the stillest training clips; 255: as lively as the liveliest.")
    ] = 127.0,
    noise: Annotated[
        float, typer.Option(help="Noise put on the picture that the network sees; more lets it change more.")
    ] = 0.02,
    seed: Seed = 0,
    num_frames: NumFrames = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    guidance_start: GuidanceStart = None,
    guidance_end: GuidanceEnd = None,
    fps: Fps = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
    lora: Lora = [],  # noqa: B006 (typer reads the default, nothing writes to it)
) -> None:
    """Bring a picture to life.

    [bold]muybridge animate fox.png -o fox.mp4 --motion 180[/bold]

    The picture is resized to cover the model's size and cropped in the middle; transparency lies on white.
    """
    from muybridge.opening.sampling import load_pipeline

    check_outputs(model, [output], upscale)
    from muybridge.data.packs import fit_frames
    from muybridge.data.video_io import read_video, write_video
    from muybridge.making.from_words import bring_to_life

    frame = read_video(image, max_frames=1).frames[:1]
    pipeline = load_pipeline(model, device, precision=precision)
    use_loras(pipeline, lora)
    settings = given_settings(
        num_frames=num_frames,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        fps=fps,
    )
    wanted = pipeline.settings(**settings)
    picture = fit_frames(frame, wanted.height, wanted.width)[0]
    options = {"motion_bucket": motion, "noise_augmentation": noise}
    with steps_bar("sampling", wanted.num_inference_steps) as advance:
        frames, recipe = bring_to_life(pipeline, model, str(image.resolve()), picture, seed, options, settings, advance)
    write_video(enlarge(frames, upscale), output, wanted.fps, {**recipe, "upscale": upscale})
    typer.echo(f"{output}: {len(frames)} frames at {wanted.fps:g} fps")


@command
def upsample_fps(
    video: Annotated[Path, typer.Argument(help="The video to put frames into.")],
    output: Output = Path("smooth.mp4"),
    prompt: Annotated[str, typer.Option(help="What the video shows.")] = "",
    model: Annotated[str, typer.Option(help="An interpolation model: bundled, or a saved folder.")] = "emoji-between",
    rounds: Annotated[int, typer.Option(help="1: T frames become 4T - 3; 2: once more.")] = 1,
    seed: Seed = 0,
    steps: Steps = None,
    context_scale: ContextScale = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Put three learned frames between each two: T frames become 4T - 3, at four times the rate.

    [bold]muybridge upsample-fps fox.mp4 -o smooth.mp4[/bold]

    The given frames come back as they were. For any model without training for this, see `interpolate`.
    """
    from muybridge.opening.sampling import load_pipeline

    if rounds not in (1, 2):
        raise UserError(f"--rounds must be 1 or 2 (the model knows two frame rates), got {rounds}")
    check_outputs(model, [output], upscale)
    from muybridge.data.video_io import read_video, write_video
    from muybridge.making.from_words import put_between
    from muybridge.pipelines.continuation import at_model_size

    clip = read_video(video)
    pipeline = load_pipeline(model, device, precision=precision)
    settings = given_settings(num_inference_steps=steps, context_scale=context_scale)
    frames = at_model_size(pipeline, clip.frames)
    windows = sum(-(-(len(frames) - 1) * 4**r // 4) for r in range(rounds))
    with steps_bar("sampling", pipeline.settings(**settings).num_inference_steps * windows) as advance:
        made, recipe = put_between(
            pipeline, model, str(video.resolve()), frames, prompt, seed, rounds, settings, advance
        )
    fps = clip.fps * 4**rounds
    recipe["sampling"]["fps"] = fps
    write_video(enlarge(made, upscale), output, fps, {**recipe, "upscale": upscale})
    typer.echo(f"{output}: {len(made)} frames at {fps:g} fps")
