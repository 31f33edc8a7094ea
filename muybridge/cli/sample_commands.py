"""generate, and replay of everything that carries a record."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command, steps_bar
from muybridge.cli.given import CONTEXT, check_read, given_options
from muybridge.cli.made import (
    Common,
    argument,
    options_of,
    output_option,
    sampling_options,
    tell,
    values_of,
    with_signature,
)
from muybridge.cli.outputs import ENDINGS, check_length
from muybridge.cli.peaks import told_memory
from muybridge.cli.writing import told_of, write_made
from muybridge.errors import UserError
from muybridge.files import next_free
from muybridge.making.base import Run
from muybridge.making.from_words import Generate
from muybridge.making.upscaling import Upscaling, words_of
from muybridge.pipelines.settings import MOTION_FRAMES
from muybridge.texts import lines_of, read_text

#: Decibels by which a replayed video may be less like the file than the frames that were encoded in it, where frames
#: are the same but for rounding; other frames are 10 and more decibels away.
TOLERATED_DB = 3.0


def register(app: typer.Typer) -> None:
    prompt = argument("prompt", str | None, "What the video shows.", None)
    options = [*options_of(Generate, ["prompt"]), *sampling_options(Generate.reads), *options_of(Common)]
    app.command("generate")(with_signature(generate, [CONTEXT, prompt, *OWN, *options], HELP))
    app.command("replay")(replay)


def _option(name: str, kind: Any, default: Any, help: str) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option("--" + name.replace("_", "-"), help=help)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


#: The options of generate that are no settings.
OWN = [
    output_option("out.mp4"),
    _option("picture_model", str, "", "Put the model's temporal layers behind this picture model."),
    _option("prompts", Path | None, None, "A file with one prompt a line, instead of PROMPT."),
    _option("output_dir", Path | None, None, "With --prompts: where 0000.mp4, 0001.mp4, ... go."),
    _option("format", str, "mp4", f"With --prompts: {', '.join(ENDINGS)} (uint8 [F, H, W, 3])."),
    _option("batch_size", int, 1, "Videos sampled together; above 1, replay is exact but for rounding."),
]
#: Those of them that one video does not read, and those that many do not.
OF_MANY = dict.fromkeys(("output_dir", "format", "batch_size"), "it is for the videos of --prompts FILE")
OF_ONE = {"output": "the videos of --prompts go to --output-dir"}


HELP = """Make a video from words.

[bold]muybridge generate "unicorn, fluent style" -o unicorn.mp4 --seed 7 --upscale 4[/bold]

With --prompts FILE --output-dir DIR, video i has seed SEED + i; files that are already there with the same record are
kept, so an interrupted run goes on; one with another record is an error.
"""


def generate(
    context: typer.Context,
    prompt: str | None,
    output: Path | None,
    picture_model: str,
    prompts: Path | None,
    output_dir: Path | None,
    format: str,
    batch_size: int,
    **values: Any,
) -> None:
    if (prompt is None) == (prompts is None):
        raise UserError('give either a PROMPT or --prompts FILE, as in: muybridge generate "unicorn, fluent style"')
    if prompts is not None and output_dir is None:
        raise UserError("--prompts needs --output-dir")
    if batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, got {batch_size}")
    check_read(given_options(context), OF_MANY if prompts is None else OF_ONE, OWN)
    common = Common(**values_of(Common, values))
    model, settings = common.model or Generate.default_model, {name: values[name] for name in Generate.reads}
    output = output or next_free(Path("out.mp4"))
    jobs = _jobs(prompt, prompts, output, output_dir, format, common.seed)
    told = {name: values[name] for name in ("negative_prompt", "style", "expand", "motion")}
    makings = [Generate(prompt=text, **told) for _, text, _ in jobs]
    chosen, paths = makings[0].check(model, settings), [path for path, _, _ in jobs]
    upscaling = common.check(paths, _read(makings[0], model, picture_model, prompts), model)
    frames = settings["num_frames"] or (MOTION_FRAMES if common.motion_module else chosen.num_frames)
    check_length(paths, lambda: frames)
    tell(makings[0].notices(chosen, common.seed))
    pipeline = common.loaded(makings[0], model, picture_model)
    run = Run(pipeline, model, common.seed, settings)
    pending = [i for i in range(len(jobs)) if prompts is None or not _is_made(jobs[i], makings[i], run, upscaling)]
    batches = [pending[i : i + batch_size] for i in range(0, len(pending), batch_size)]
    total = makings[0].total_steps(run) * len(batches)
    with told_memory(pipeline, common, model, context), steps_bar("sampling", total) as advance:
        run.on_step = advance
        for batch in batches:
            made = Generate.make_batch([makings[i] for i in batch], run, [jobs[i][2] for i in batch])
            for i, video in zip(batch, made, strict=True):
                write_made(video, jobs[i][0], upscaling, common.device, pipeline)
    said = told_of(upscaling)
    if prompts is None:
        typer.echo(f"{output}{said}")
    else:
        there = len(jobs) - len(pending)
        typer.echo(f"{len(pending)} videos written to {output_dir}{said}, {there} were already there")


def _jobs(
    prompt: str | None, prompts: Path | None, output: Path, output_dir: Path | None, format: str, seed: int
) -> list[tuple[Path, str, int]]:
    """(path, prompt, seed) of every video wanted."""
    if prompt is not None:
        return [(output, _some_words(prompt, "the prompt"), seed)]
    assert prompts is not None and output_dir is not None
    if format not in ENDINGS:
        raise UserError(f"--format: unknown {format!r}; Known: {', '.join(ENDINGS)}")
    lines = [line.strip() for line in lines_of(read_text(prompts))]
    texts = [_some_words(line, f"{prompts}:{number}") for number, line in enumerate(lines, 1) if line]
    if not texts:
        raise UserError(f"{prompts}: no prompt in it; write one a line")
    return [(output_dir / f"{i:04d}.{format}", text, seed + i) for i, text in enumerate(texts)]


def _read(making: Generate, model: str, picture_model: str, prompts: Path | None) -> list[Path]:
    """The files and folders that are read."""
    from muybridge.library.catalogue import find_model

    picture = [find_model(picture_model)] if picture_model else []
    return [*making.files(model), *picture, *([prompts] if prompts is not None else [])]


def _some_words(prompt: str, where: str) -> str:
    from muybridge.models.text.prompts import check_prompt

    return check_prompt(prompt, where)


def _is_made(job: tuple[Path, str, int], making: Generate, run: Run, upscaling: Upscaling) -> bool:
    """Whether the file is there already, made with this very record.

    Raises:
        UserError: it is there with another record, or none.
    """
    from dataclasses import replace

    from muybridge.data.video_io import read_recipe
    from muybridge.making.record import check_made_so, record_of

    path, _, seed = job
    if not path.is_file():
        return False
    found = read_recipe(path)
    if not found:
        raise UserError(f"{path}: is there already, without a record of muybridge; give another --output-dir")
    wanted = record_of(making, replace(run, seed=seed), run.pipeline.settings(**run.settings))
    check_made_so(path, found, upscaling.recorded(wanted), "--output-dir")
    return True


@command
def replay(
    file: Annotated[Path, typer.Argument(help="A video muybridge wrote.")],
    model: Annotated[str, typer.Option(help="Where the model is now, if it moved.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Make a video again from the record stored in it, and compare.

    Exit code 0: the frames are the same, bit for bit or but for rounding. Exit code 1: they are not.
    """
    from muybridge.data.video_io import as_written, read_recipe, read_video
    from muybridge.evaluation.motion import psnr
    from muybridge.files import cache_folder
    from muybridge.making.record import check_record, frames_hash
    from muybridge.making.replay import replay as make_again

    stored, record = read_video(file).frames, read_recipe(file)
    check_record(record, str(file))
    bars: list[Any] = []

    def watching(total: int) -> Any:
        bars.append(steps_bar("sampling", total))
        return bars[0].__enter__()

    try:
        made = make_again(record, read_video, str(file), model, device, cache_folder() / "structure", watching)
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
    upscaling = Upscaling.of(record)
    shown = upscaling.enlarged(made.frames, words_of(made.record), device).whole()
    count, height, width = shown.shape[:3]
    likeness = psnr(stored[:count, :height, :width], shown) if len(stored) == count else 0.0
    same = frames_hash(made.frames) == record["frames_sha256"]
    the_same = f"the same: every frame equals the recorded one before encoding; the file itself is at {likeness:.1f} dB"
    if same and not upscaling.network:
        typer.echo(the_same)
        return
    # what encoding alone costs these frames: the bar that rounding is measured against
    encoded = as_written(shown, file.suffix, made.fps)
    cost = psnr(encoded[:count, :height, :width], shown)
    alike = len(stored) == count and likeness >= min(cost, 60.0) - TOLERATED_DB
    if same and alike:
        typer.echo(the_same)
        return
    typer.echo(
        f"not bit for bit the same (another machine, version or number of threads?): {likeness:.1f} dB against the "
        f"file, where encoding alone costs down to {cost:.1f} dB"
    )
    if not alike:
        typer.echo("these are other frames")
        raise typer.Exit(1)
