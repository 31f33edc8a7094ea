"""What a command that samples takes of memory: predicted before it, measured after it; and `plan` for such commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from muybridge.cli.console import bytes_text, plain_console
from muybridge.errors import UserError
from muybridge.library.catalogue import bundled_models
from muybridge.nn.devices import BALANCED, FAST, LOW

if TYPE_CHECKING:
    from muybridge.cli.made import Common
    from muybridge.pipelines.peak import Peak

#: What a command's context holds where it is to be planned, not run.
PLANNING = "planning"


@contextmanager
def told_memory(pipeline: Any, common: Common, model: str, context: typer.Context) -> Iterator[None]:
    """Within it a pipeline draws: its choice of memory and the predicted peak are said before the first network call
    (of each stage, where there are several), the measured peak at the end. Of bundled models only where memory was
    chosen: the weights that people own are what does not fit.

    Args:
        context: of the command; one that is only planned stops at the first network call.

    Raises:
        typer.Exit: planned.
    """
    planning = context.obj == PLANNING
    asked = planning or common.memory or common.motion_module
    if not asked and model in bundled_models():
        yield
        return
    from muybridge.nn.resting import is_at_rest
    from muybridge.pipelines.memory import WHAT_IT_DOES
    from muybridge.pipelines.peak import Planned, peak_bytes, watch
    from muybridge.pipelines.peak_of_stages import watch_stages
    from muybridge.pipelines.staged import StagedPipeline

    what = f"memory {pipeline.memory}: {WHAT_IT_DOES[pipeline.memory]}"
    if hasattr(pipeline, "network") and is_at_rest(pipeline.network):
        what += ", half-precision weights widened a layer at a time"

    def told(peak: Peak, stage: str = "") -> None:
        predicted = f"predicted peak {bytes_text(peak.total)}, {bytes_text(peak.free)} are free"
        if planning and stage:
            typer.echo(f"stage {stage}: {predicted}", err=True)
        if planning:
            raise Planned(peak)
        typer.echo(f"stage {stage}: {predicted}" if stage else f"{what}; {predicted}", err=True)

    def untold(why: str) -> None:
        if planning:
            raise UserError(f"plan: this network cannot be counted without being run: {why}")
        typer.echo(f"{what}; the peak is not predicted: {why}", err=True)

    if isinstance(pipeline, StagedPipeline):
        if not planning:
            typer.echo(what, err=True)
        watch_stages(pipeline, lambda stage, peak: told(peak, stage), untold)
    else:
        watch(pipeline, told, untold)
    try:
        yield
    except Planned as planned:
        _show(planned.peak, what, pipeline.memory)
        raise typer.Exit(0) from None
    typer.echo(f"measured peak {bytes_text(peak_bytes(pipeline.device))}", err=True)


def _show(peak: Peak, what: str, memory: str) -> None:
    from rich.table import Table

    table = Table(title=what, show_header=False)
    table.add_row("taken before the first network call", bytes_text(peak.there))
    table.add_row("a network call beside it", bytes_text(peak.network))
    table.add_row("the last decoding, and the video", bytes_text(peak.decoding))
    table.add_row("peak memory (predicted)", bytes_text(peak.total, bound=True))
    table.add_row("free beside what is taken", bytes_text(peak.free))
    plain_console().print(table)
    if not peak.fits:
        less = "fewer frames or a smaller size"
        advice = less if memory == LOW else f"--memory {BALANCED if memory == FAST else LOW}, or {less}"
        typer.secho(f"this will not fit: ask for {advice}", fg="yellow")


def plan_command(context: typer.Context, name: str, given: Sequence[str]) -> None:
    """Run a sampling command up to its first network call and say what it would take.

    Args:
        given: its arguments and options.

    Raises:
        UserError: not a command that samples.
        typer.Exit: as the command ends.
    """
    assert context.parent is not None
    group: Any = context.parent.command
    command = group.get_command(context.parent, name)
    how = {"prog_name": f"muybridge {name}", "standalone_mode": False, "obj": PLANNING}
    raise typer.Exit(command.main(args=list(given), **how) or 0)  # click returns what the command ended with
