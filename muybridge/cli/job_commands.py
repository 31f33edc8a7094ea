"""jobs: the queue for long work, on the command line."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.console import command, plain_console
from muybridge.cli.parsing import check_arguments

HELP = """One queue for long work - training, curation, long videos - that goes on when this terminal is closed.

[bold]muybridge jobs add train recipes/world-vdm.yaml[/bold]
[bold]muybridge jobs[/bold]

Jobs run one after another. They lie in ~/.local/share/muybridge/jobs, or in MUYBRIDGE_JOBS.
"""
app = typer.Typer(help=HELP, invoke_without_command=True, rich_markup_mode="rich")
#: Commands that are no work for a queue.
NO_WORK = ("jobs", "studio", "doctor")
NAME = Annotated[str, typer.Argument(help="A job's name, as `muybridge jobs` lists it.")]


def _queue() -> Any:
    from muybridge.jobs.queue import Queue

    return Queue()


@app.callback()
@command
def jobs(context: typer.Context) -> None:
    """List the jobs, oldest first."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    table = Table("name", "state", "progress", "command")
    for job in _queue().jobs():
        table.add_row(job.name, job.state, progress_text(job.progress), shlex.join(job.arguments))
    plain_console().print(table)


@app.command("add", context_settings={"allow_interspersed_args": False})
@command
def add(
    arguments: Annotated[list[str], typer.Argument(help="A command with its arguments, without `muybridge`.")],
) -> None:
    """Put a command at the end of the queue; it runs in this folder.

    [bold]muybridge jobs add curate run films -o clips[/bold]
    """
    from muybridge.jobs.runner import ensure_runner

    check_arguments(arguments, NO_WORK)
    queue = _queue()
    job = queue.add(arguments, Path.cwd())
    ensure_runner(queue)
    typer.echo(f"{job.name}: {shlex.join(job.arguments)}")


@app.command("show")
@command
def show(name: NAME, follow: Annotated[bool, typer.Option(help="Go on until the job is over.")] = False) -> None:
    """Say how a job is and print the end of its log. With --follow the exit code is the job's own."""
    from muybridge.jobs.queue import QUEUED, RUNNING

    job, told = _queue().job(name), 0
    while follow and job.state in (QUEUED, RUNNING):
        told = _log_from(job, told)
        time.sleep(0.5)
    if follow:
        _log_from(job, told)
    else:
        typer.echo(printable(job.log()), nl=False)
    bar, code = progress_text(job.progress), f", exit code {job.code}" if job.code is not None else ""
    typer.echo(f"{job.name}: {job.state}{code}{f', {bar}' if bar else ''}")
    if follow:
        raise typer.Exit(1 if job.code is None else job.code)


@app.command("cancel")
@command
def cancel(name: NAME) -> None:
    """Stop a job as Ctrl-C does: training saves a checkpoint first. After a minute it is killed."""
    from muybridge.jobs.runner import ensure_runner

    queue = _queue()
    job = queue.job(name)
    job.stop()
    ensure_runner(queue)  # its own may have been killed
    typer.echo(f"{job.name}: {'stopping' if job.state == 'running' else job.state}")


@app.command("again")
@command
def again(name: NAME) -> None:
    """Add a job's command once more, in its folder: training and curation go on where they stopped."""
    from muybridge.jobs.runner import ensure_runner

    queue = _queue()
    former = queue.job(name)
    job = queue.add(former.arguments, Path(former.directory), former.owner)
    ensure_runner(queue)
    typer.echo(f"{job.name}: {shlex.join(job.arguments)}")


@app.command("remove")
@command
def remove(name: NAME) -> None:
    """Forget a job that is over, with its log. What its command wrote stays."""
    job = _queue().job(name)
    job.remove()
    typer.echo(f"{name}: removed")


@app.command("run")
@command
def run() -> None:
    """Work off the queue here, until no job waits: after the machine was restarted, say."""
    from muybridge.jobs.runner import work_off

    work_off(_queue())


def progress_text(progress: dict[str, Any]) -> str:
    """How far a job is, in words; "" where nothing is known."""
    done, total = progress.get("done"), progress.get("total")
    if not total:
        return ""
    return f"{progress.get('what', '')} {done:g} of {total:g}".strip()


def printable(text: str) -> str:
    """What a job printed, without what would steer a terminal."""
    return "".join(c for c in text if c == "\n" or c == "\t" or c.isprintable())


def _log_from(job: Any, start: int) -> int:
    """Print a job's log from a byte on; returns where it ends now."""
    from muybridge.jobs.queue import LOG

    path = job.folder / LOG
    if not path.is_file():
        return start
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    typer.echo(printable(data.decode("utf-8", errors="replace")), nl=False)
    return start + len(data)
