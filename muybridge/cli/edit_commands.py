"""tune, edit and restyle: what a given video shows, changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    Device,
    Guidance,
    Output,
    Precision,
    Seed,
    Steps,
    Upscale,
    check_outputs,
    given_settings,
)
from muybridge.cli.zero_commands import ImageModel, MaxFrames, Negative, read_source, write
from muybridge.errors import UserError


def register(app: typer.Typer) -> None:
    for function in (tune, edit, restyle):
        app.command()(function)


@command
def tune(
    video: Annotated[Path, typer.Argument(help="The video to tune on.")],
    caption: Annotated[str, typer.Option(help="What it shows, in the words of the image model.")],
    folder: Annotated[Path | None, typer.Option(help="Of the run; the tuned model lies in FOLDER/model.")] = None,
    model: ImageModel = "emoji-image",
    num_frames: Annotated[int, typer.Option(help="At most; memory grows with it.")] = 24,
    first: Annotated[int, typer.Option(help="The first frame taken.")] = 0,
    stride: Annotated[int, typer.Option(help="Every which frame is taken.")] = 1,
    height: Annotated[int | None, typer.Option(help="Pixels; the image model's own by default.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    train_steps: Annotated[int, typer.Option(help="Optimizer steps; too many bring back the source.")] = 300,
    learning_rate: Annotated[float, typer.Option(help="3e-5 in the paper, for large models.")] = 3e-5,
    iterations: Annotated[int, typer.Option(help="Of each inversion step; 1 is approximate.")] = 5,
    steps: Steps = 50,
    seed: Seed = 0,
) -> None:
    """Tune an image model on one video (Tune-A-Video); then `edit` it with new words. The same command goes on.

    [bold]muybridge tune fox.mp4 --caption "fox, fluent style" && muybridge edit runs/tune-fox/model "cat, fluent style"[/bold]
    """
    folder = folder or Path("runs") / f"tune-{video.stem}"
    if not caption.strip():
        raise UserError('--caption: say what the video shows, as in --caption "fox, fluent style"')
    from muybridge.opening.sampling import load_pipeline
    from muybridge.systems.tune_a_video.training import TUNING, tuning_data
    from muybridge.training.recipe import Recipe, TextConfig, TrainingConfig
    from muybridge.training.trainer import Trainer

    picture: Any = load_pipeline(model)
    own = picture.settings()
    size = {"height": height or own.height, "width": width or own.width}
    where = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else model
    data = tuning_data(video.resolve(), caption, num_frames, first, stride, size)
    recipe = Recipe(
        name=folder.name,
        system="tune_a_video",
        seed=seed,
        model={"image": where},
        text=TextConfig(picture.config.text_encoder, picture.config.text_max_length),
        data=data,
        training=TrainingConfig(steps=train_steps, learning_rate=learning_rate, **TUNING),
        sampling={**picture.config.sampling, **size, "num_frames": num_frames, "num_inference_steps": steps or 50},
    )
    del picture
    Trainer(recipe, folder).run()
    _invert(folder / "model", recipe.data, iterations)
    typer.echo(f'{folder / "model"}: edit it with  muybridge edit {folder / "model"} "..."')


def _invert(model: Path, data: dict[str, Any], iterations: int) -> None:
    """Find and keep the noise that the tuned model turns into the video."""
    from muybridge.data.registry import make_source
    from muybridge.making.from_videos import INVERSION, save_inversion
    from muybridge.nn.frames import from_uint8
    from muybridge.opening.sampling import load_pipeline
    from muybridge.pipelines.inversion import invert

    if (model / INVERSION).is_file():
        return
    pipeline = load_pipeline(str(model))
    clip = make_source(data).clip(0)
    settings = {"num_frames": len(clip.frames)}
    extra = model / "muybridge.json"
    values = json.loads(extra.read_text(encoding="utf-8"))
    values["sampling"] |= settings | {"fps": clip.fps}
    extra.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    samples = pipeline.to_samples(from_uint8(clip.frames)[None])
    with steps_bar("inverting", pipeline.settings().num_inference_steps) as advance:
        save_inversion(invert(pipeline, samples, iterations, advance), model)


@command
def edit(
    model: Annotated[Path, typer.Argument(help="The folder that `muybridge tune` wrote.")],
    prompt: Annotated[str, typer.Argument(help="What the video shall show now.")],
    output: Output = Path("edited.mp4"),
    negative: Negative = "",
    inverted: Annotated[
        bool, typer.Option(help="Start from the video's own noise; without it the motion is lost.")
    ] = True,
    seed: Seed = 0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Show something else in a video that a model was tuned on (Tune-A-Video).

    [bold]muybridge edit runs/tune-fox/model "cat, fluent style" -o cat.mp4[/bold]
    """
    check_outputs(str(model), [output], upscale)
    from muybridge.making.from_videos import edit as make
    from muybridge.making.from_videos import open_editor

    settings = given_settings(num_inference_steps=steps, guidance_scale=guidance_scale)
    pipeline = open_editor(str(model), "edit", device, precision)
    wanted = pipeline.settings(**settings)
    options = {"inverted": inverted, "negative": negative}
    with steps_bar("sampling", wanted.num_inference_steps) as advance:
        frames, recipe = make(pipeline, str(model), prompt, seed, options, settings, advance)
    write(frames, output, wanted.fps, recipe, upscale)


@command
def restyle(
    video: Annotated[Path, typer.Argument(help="The video that gets another look.")],
    output: Output = Path("restyled.mp4"),
    content: Annotated[str, typer.Option(help="What it shall look like: words, or a picture's file.")] = "",
    strength: Annotated[
        float | None, typer.Option(help="Redraw with any model instead (SDEdit): 0 gives it back, 1 forgets it.")
    ] = None,
    structure_level: Annotated[int, typer.Option(help="0 keeps all of the depth, 7 hardly any.")] = 2,
    temporal_scale: Annotated[float, typer.Option(help="Above 1 smoother over time, below 1 livelier.")] = 1.0,
    model: Annotated[
        str, typer.Option(help="A Gen-1 model; with --strength any model. Bundled, or a saved folder.")
    ] = "emoji-restyle",
    max_frames: MaxFrames = 0,
    seed: Seed = 0,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Give a video another look: its depth kept and its content replaced (Gen-1), or drawn anew under words (SDEdit).

    [bold]muybridge restyle walk.mp4 --content "robot, fluent style" --structure-level 1 -o robot.mp4[/bold]
    [bold]muybridge restyle walk.mp4 --strength 0.6 --model emoji-video --content "robot, fluent style"[/bold]
    """
    check_outputs(model, [output], upscale)
    if not content:
        raise UserError('--content: say what the video shall look like: words, as in --content "robot", or a picture')
    from muybridge.data.folder import cache_folder
    from muybridge.data.video_io import read_video
    from muybridge.making.from_videos import open_editor
    from muybridge.making.from_videos import restyle as make

    frames, fps, source = read_source(video, max_frames)
    settings = given_settings(num_inference_steps=steps, guidance_scale=guidance_scale, fps=fps)
    pipeline = open_editor(model, "restyle", device, precision)
    count = pipeline.settings(**settings).num_inference_steps
    picture = None
    options: dict[str, Any]
    if strength is not None:
        options, count = {"strength": strength}, round(strength * count)
    else:
        options = {"level": structure_level, "temporal_scale": temporal_scale, "structure": "depth"}
        if Path(content).is_file():
            picture = read_video(Path(content), 1).frames[0]
            options["picture"] = str(Path(content).resolve())
    with steps_bar("sampling", max(1, count)) as advance:
        made, recipe = make(
            pipeline,
            model,
            source,
            frames,
            content,
            seed,
            options,
            settings,
            advance,
            cache_folder() / "structure",
            picture,
        )
    write(made, output, fps, recipe, upscale)
