"""generate, extend, interpolate, replay."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    Fps,
    Guidance,
    Height,
    Lora,
    MakerModel,
    Method,
    Model,
    NumFrames,
    Output,
    SamplerName,
    Seed,
    Steps,
    Upscale,
    Weight,
    Width,
    check_outputs,
    enlarge,
    given_settings,
    use_loras,
)
from muybridge.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def register(app: typer.Typer) -> None:
    for function in (generate, extend, interpolate, replay):
        app.command()(function)


@command
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows.")] = None,
    output: Output = Path("out.mp4"),
    model: Model = "emoji-video",
    seed: Seed = 0,
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    steps: Steps = None,
    sampler: SamplerName = None,
    guidance_scale: Guidance = None,
    fps: Fps = None,
    upscale: Upscale = 1,
    lora: Lora = [],  # noqa: B006 (typer reads the default, nothing writes to it)
    picture_model: Annotated[
        str, typer.Option(help="Put the model's temporal layers behind this picture model (of your style or subject).")
    ] = "",
    prompts: Annotated[Path | None, typer.Option(help="A file with one prompt a line, instead of PROMPT.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="With --prompts: where 0000.mp4, 0001.mp4, ... go.")] = None,
    format: Annotated[str, typer.Option(help="With --prompts: mp4, gif, webp or npy (uint8 [F, H, W, 3]).")] = "mp4",
    batch_size: Annotated[
        int, typer.Option(help="Videos sampled together; above 1, replay is exact but for rounding.")
    ] = 1,
) -> None:
    """Make a video from words.

    [bold]muybridge generate "fox, fluent style" -o fox.mp4 --seed 7 --upscale 4[/bold]

    With --prompts FILE --output-dir DIR, video i has seed SEED + i; files that are already there with the same recipe are
    kept, so an interrupted run goes on.
    """
    settings = given_settings(
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=steps,
        sampler=sampler,
        guidance_scale=guidance_scale,
        fps=fps,
    )
    if (prompt is None) == (prompts is None):
        raise UserError('give either a PROMPT or --prompts FILE, as in: muybridge generate "fox, fluent style"')
    if prompts is not None and output_dir is None:
        raise UserError("--prompts needs --output-dir")
    if batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, got {batch_size}")
    jobs = _jobs(prompt, prompts, output, output_dir, format, seed)
    pipeline = _open(model, settings, [path for path, _, _ in jobs], upscale, picture_model)
    use_loras(pipeline, lora)

    from muybridge.data.video_io import write_video
    from muybridge.systems.recipes_in_files import make_videos, recipe_base

    steps_each = pipeline.settings(**settings).num_inference_steps
    base = recipe_base(pipeline, model, "generate", settings) | {"upscale": upscale}
    pending = [job for job in jobs if prompts is None or not _is_made(job, base)]
    batches = [pending[i : i + batch_size] for i in range(0, len(pending), batch_size)]
    with steps_bar("sampling", steps_each * len(batches)) as advance:
        for batch in batches:
            paths, texts, seeds = zip(*batch, strict=True)
            for path, (frames, recipe) in zip(
                paths, make_videos(pipeline, model, texts, seeds, settings, batch_size, advance), strict=True
            ):
                write_video(enlarge(frames, upscale), path, recipe["sampling"]["fps"], {**recipe, "upscale": upscale})
    if prompts is None:
        typer.echo(f"{output}")
    else:
        typer.echo(f"{len(pending)} videos written to {output_dir}, {len(jobs) - len(pending)} were already there")


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
) -> None:
    """Make a video longer with any model, block by block, each knowing the frames before it.

    [bold]muybridge extend star.mp4 --prompt "a blue star moving up" --add-frames 12 -o longer.mp4[/bold]
    """
    options = {"add_frames": add_frames, "context_frames": context_frames, "method": method, "weight": weight}
    settings = given_settings(num_inference_steps=steps, sampler=sampler, guidance_scale=guidance_scale)
    _continue("extend", video, output, prompt, seed, options, settings, model, upscale)


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
) -> None:
    """Put frames between the frames of a video with any model.

    [bold]muybridge interpolate star.mp4 --prompt "a blue star moving up" --factor 2 -o smooth.mp4[/bold]
    """
    options = {"factor": factor, "method": method, "weight": weight}
    settings = given_settings(num_inference_steps=steps, sampler=sampler, guidance_scale=guidance_scale)
    _continue("interpolate", video, output, prompt, seed, options, settings, model, upscale)


@command
def replay(
    file: Annotated[Path, typer.Argument(help="A video muybridge wrote.")],
    model: Annotated[str | None, typer.Option(help="Where the model is now, if it moved.")] = None,
) -> None:
    """Make a video again from the recipe stored in it, and compare.

    Exit code 0: the frames are the same, bit for bit or but for rounding. Exit code 1: they are not.
    """
    from muybridge.data.video_io import read_recipe, read_video

    stored = read_video(file).frames
    recipe = read_recipe(file)
    if "frames_sha256" not in recipe:
        raise UserError(f"{file}: no recipe of muybridge is stored in it")

    from muybridge.evaluation.motion import psnr
    from muybridge.systems.loading import load_pipeline
    from muybridge.systems.recipes_in_files import check_model, frames_hash
    from muybridge.systems.recipes_in_files import replay as make_again
    from muybridge.systems.recipes_of_edits import EDITS, open_editor
    from muybridge.systems.recipes_of_edits import make_again as edit_again

    name = model or recipe["model"]
    with steps_bar("sampling", recipe["sampling"]["num_inference_steps"]) as advance:
        if recipe["command"] in EDITS:
            pipeline = open_editor(name, recipe["command"])
            check_model(recipe, name)
            frames = edit_again(recipe, pipeline, lambda path: _read_source(path, recipe), name, advance)
        else:
            pipeline = load_pipeline(name, picture=recipe.get("picture", ""))
            frames = make_again(recipe, pipeline, lambda path: _read_source(path, recipe), model, advance)
    exact = frames_hash(frames) == recipe["frames_sha256"]
    shown = enlarge(frames, recipe.get("upscale", 1))
    count, height, width = shown.shape[:3]
    likeness = psnr(stored[:count, :height, :width], shown) if len(stored) == count else 0.0
    if exact:
        typer.echo(
            f"the same: every frame equals the recorded one before encoding; the file itself is at {likeness:.1f} dB"
        )
        return
    typer.echo(f"not bit for bit the same (another machine or version?); against the file: {likeness:.1f} dB")
    if likeness < 30:
        raise typer.Exit(1)


def _read_source(path: str, recipe: dict[str, Any]) -> np.ndarray:
    """What a video was made from: a video, or the first frame of a picture, fitted as `animate` does."""
    from muybridge.data.packs import fit_frames
    from muybridge.data.video_io import read_video

    if recipe["command"] != "animate":
        name, _, most = path.partition("#")  # "file#16" is its first 16 frames
        return read_video(name, int(most) if most else None).frames
    return fit_frames(read_video(path, 1).frames[:1], recipe["sampling"]["height"], recipe["sampling"]["width"])


# --- shared ---------------------------------------------------------------------------------------------------------


def _jobs(
    prompt: str | None, prompts: Path | None, output: Path, output_dir: Path | None, format: str, seed: int
) -> list[tuple[Path, str, int]]:
    """(path, prompt, seed) of every video wanted."""
    if prompt is not None:
        return [(output, prompt, seed)]
    assert prompts is not None and output_dir is not None
    try:
        lines = [line.strip() for line in prompts.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{prompts}: cannot be read as text ({error})") from error
    texts = [line for line in lines if line]
    if not texts:
        raise UserError(f"{prompts}: no prompt in it; write one a line")
    return [(output_dir / f"{i:04d}.{format}", text, seed + i) for i, text in enumerate(texts)]


def _open(model: str, settings: dict[str, Any], paths: list[Path], upscale: int, picture: str = "") -> Any:
    """Check everything that can be checked cheaply, then open the model."""
    check_outputs(model, paths, upscale)

    from muybridge.systems.loading import load_pipeline

    pipeline = load_pipeline(model, picture=picture)
    pipeline.settings(**settings)
    return pipeline


def _maker_of(video: Path) -> str:
    """The model that a video was made with from words, if it is still there."""
    from muybridge.data.video_io import read_recipe
    from muybridge.systems.loading import find_model

    recipe = read_recipe(video)
    if recipe.get("command") in ("generate", "extend", "interpolate"):
        with contextlib.suppress(UserError):
            find_model(recipe["model"])
            return str(recipe["model"])
    return "world-vdm"


def _is_made(job: tuple[Path, str, int], base: dict[str, Any]) -> bool:
    """Whether the file is there already, made with this very recipe."""
    from muybridge.data.video_io import read_recipe

    path, prompt, seed = job
    if not path.is_file():
        return False
    found = read_recipe(path)
    return all(found.get(k) == v for k, v in {**base, "prompt": prompt, "seed": seed}.items())


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
) -> None:
    from muybridge.data.video_io import read_video, write_video

    clip = read_video(video)
    model = model or _maker_of(video)
    pipeline = _open(model, settings, [output], upscale)

    from muybridge.systems.continuation import at_model_size
    from muybridge.systems.recipes_in_files import continue_video

    frames = at_model_size(pipeline, clip.frames)
    with steps_bar("sampling", pipeline.settings(**settings).num_inference_steps) as advance:
        made, recipe = continue_video(
            pipeline, model, verb, str(video.resolve()), frames, prompt, seed, options, settings, advance
        )
    fps = clip.fps * (options.get("factor", 1))
    recipe["sampling"]["fps"] = fps
    write_video(enlarge(made, upscale), output, fps, {**recipe, "upscale": upscale})
    typer.echo(f"{output}: {len(made)} frames at {fps:g} fps")
