"""What a command that samples takes of memory: predicted before it, measured after it; and `plan` for such commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from muybridge.cli.console import bytes_text, plain_console
from muybridge.errors import UserError
from muybridge.nn.devices import BALANCED, FAST, LOW

if TYPE_CHECKING:
    from muybridge.pipelines.peak import Peak

#: What a command's context holds where it is to be planned, not run.
PLANNING = "planning"


@contextmanager
def told_memory(pipeline: Any, memory: str, context: typer.Context) -> Iterator[None]:
    """Within it a pipeline draws: its choice of memory and the predicted peak are said before the first network call,
    the measured peak at the end. Without `--memory` nothing is said.

    Args:
        memory: the option's value, "" where it was not given.
        context: of the command; one that is only planned stops at the first network call.

    Raises:
        UserError: a model that cannot be planned.
        typer.Exit: planned.
    """
    planning = context.obj == PLANNING
    if not memory and not planning:
        yield
        return
    from muybridge.pipelines.memory import WHAT_IT_DOES
    from muybridge.pipelines.peak import Planned, peak_bytes, watch

    if next(pipeline.network.parameters(), None) is None and planning:
        raise UserError("plan: a model of several networks, opened one after another; plan its stages one by one")
    what = f"memory {pipeline.memory}: {WHAT_IT_DOES[pipeline.memory]}"

    def told(peak: Peak) -> None:
        if planning:
            raise Planned(peak)
        typer.echo(f"{what}; predicted peak {bytes_text(peak.total)}, {bytes_text(peak.free)} are free", err=True)

    watch(pipeline, told)
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
    """
    assert context.parent is not None
    group: Any = context.parent.command
    command = group.get_command(context.parent, name)
    command.main(args=list(given), prog_name=f"muybridge {name}", standalone_mode=False, obj=PLANNING)
