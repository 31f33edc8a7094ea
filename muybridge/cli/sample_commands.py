"""generate, and replay of everything that carries a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.options import (
    Device,
    Fps,
    Guidance,
    GuidanceEnd,
    GuidanceStart,
    Height,
    Lora,
    Model,
    NumFrames,
    Output,
    Precision,
    SamplerName,
    Seed,
    Steps,
    Upscale,
    Width,
    enlarge,
    given_settings,
    open_checked,
    use_loras,
)
from muybridge.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def register(app: typer.Typer) -> None:
    for function in (generate, replay):
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
    guidance_start: GuidanceStart = None,
    guidance_end: GuidanceEnd = None,
    fps: Fps = None,
    upscale: Upscale = 1,
    device: Device = "cpu",
    precision: Precision = "fp32",
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
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        fps=fps,
    )
    if (prompt is None) == (prompts is None):
        raise UserError('give either a PROMPT or --prompts FILE, as in: muybridge generate "fox, fluent style"')
    if prompts is not None and output_dir is None:
        raise UserError("--prompts needs --output-dir")
    if batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, got {batch_size}")
    jobs = _jobs(prompt, prompts, output, output_dir, format, seed)
    pipeline = open_checked(model, settings, [path for path, _, _ in jobs], upscale, device, precision, picture_model)
    use_loras(pipeline, lora)

    from muybridge.data.video_io import write_video
    from muybridge.making.from_words import make_videos, recipe_base

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
def replay(
    file: Annotated[Path, typer.Argument(help="A video muybridge wrote.")],
    model: Annotated[str | None, typer.Option(help="Where the model is now, if it moved.")] = None,
    device: Device = "cpu",
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
    from muybridge.making.from_videos import EDITS, open_editor
    from muybridge.making.from_videos import make_again as edit_again
    from muybridge.making.from_words import check_model, frames_hash
    from muybridge.making.from_words import replay as make_again
    from muybridge.opening.sampling import load_pipeline

    name, precision = model or recipe["model"], recipe.get("precision", "fp32")
    with steps_bar("sampling", recipe["sampling"]["num_inference_steps"]) as advance:
        if recipe["command"] in EDITS:
            pipeline = open_editor(name, recipe["command"], device, precision)
            check_model(recipe, name)
            frames = edit_again(recipe, pipeline, lambda path: _read_source(path, recipe), name, advance)
        else:
            pipeline = load_pipeline(name, device, picture=recipe.get("picture", ""), precision=precision)
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


def _is_made(job: tuple[Path, str, int], base: dict[str, Any]) -> bool:
    """Whether the file is there already, made with this very recipe."""
    from muybridge.data.video_io import read_recipe

    path, prompt, seed = job
    if not path.is_file():
        return False
    found = read_recipe(path)
    return all(found.get(k) == v for k, v in {**base, "prompt": prompt, "seed": seed}.items())
