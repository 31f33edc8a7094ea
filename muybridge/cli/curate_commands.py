"""curate run, curate tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.console import plain_console, progress
from muybridge.cli.made import argument, options_of, values_of, with_signature
from muybridge.configuration import Settings, setting
from muybridge.curation.settings import (
    CurationSettings,
    CutSettings,
    Machines,
    ScoreSettings,
    SelectSettings,
    SurveySettings,
)
from muybridge.errors import UserError

app = typer.Typer(help="Turn raw footage into captioned, filtered, sharded training clips.", no_args_is_help=True)

#: Whose fields are options of both commands.
PARTS = (SurveySettings, CutSettings, ScoreSettings, SelectSettings)
#: What `run` takes beside what `tune` takes too.
OF_RUN = ("split", "per_shard", "seed")


@dataclass(frozen=True, kw_only=True)
class Place(Settings):
    """Where a curation goes."""

    output: Path = setting(..., "a new folder, or that of an earlier run to go on", short="o")


RUN = """Cut, score, filter and pack a folder of footage. The same command goes on after an interruption.

[bold]muybridge curate run films -o clips --keep 0.6[/bold]

Every file and every clip has a line in manifest.parquet and report.html, kept or dropped, with the reason.
"""

TUNE = """Show what each filter would do before anything is dropped or written: histograms, clips on both sides, counts.

[bold]muybridge curate tune films -o clips --limit text=0.07[/bold]

Looks at the footage as `run` does (and `run` reuses it), then writes tune.html beside the folder's name.
"""


def run(footage: Path, **values: Any) -> None:
    made, machines = _opened(footage, values)
    from muybridge.curation.report import summary

    with _bars() as tell:
        outcome = made.run(machines.workers, machines.ray_address, tell)
    _print(summary(outcome))
    typer.echo(f"{made.output / 'report.html'}")


def tune(footage: Path, **values: Any) -> None:
    made, machines = _opened(footage, values)
    from muybridge.curation.report import summary, write_tuning

    with _bars() as tell:
        jobs = made.look(machines.workers, machines.ray_address, tell)
    outcome = made.decide(jobs)
    _print(summary(outcome))
    typer.echo(f"{write_tuning(made, outcome, made.output / 'tune.html')}: nothing was dropped")


def _opened(footage: Path, values: dict[str, Any]) -> tuple[Any, Machines]:
    """The curation that the options describe."""
    cuts = CutSettings(**values_of(CutSettings, values))
    settings = CurationSettings(
        SurveySettings(cuts=cuts, **values_of(SurveySettings, values)),
        ScoreSettings(**values_of(ScoreSettings, values)),
        SelectSettings(**values_of(SelectSettings, values)),
        **values_of(CurationSettings, values),
    )
    machines = Machines(**values_of(Machines, values))
    _need_packages()
    from muybridge.curation.pipeline import Curation

    return Curation(footage, Place(**values_of(Place, values)).output, settings), machines


def _need_packages() -> None:
    from importlib.util import find_spec

    wanted = {"cv2": "opencv-python-headless", "scenedetect": "scenedetect-headless", "pyarrow": "pyarrow"}
    missing = [package for module, package in wanted.items() if find_spec(module) is None]
    if missing:
        raise UserError(f"curation needs {', '.join(missing)}: pip install 'muybridge[curation]'")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar a stage."""
    with progress() as shown:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield tell


def _print(lines: list[tuple[str, int]]) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    for name, count in lines:
        table.add_row(name, f"{count:,}")
    plain_console().print(table)


SHARED = [option for part in (Place, *PARTS, Machines) for option in options_of(part)]
for name, function, own, text in (
    ("run", run, options_of(CurationSettings, only=OF_RUN), RUN),
    ("tune", tune, [], TUNE),
):
    footage = argument("footage", Path, "A folder of videos; it is only read.")
    app.command(name)(with_signature(function, [footage, *SHARED, *own], text))
