"""Arguments that are read as the command line reads them, without running anything: for the queue and the page."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

from muybridge.errors import UserError


@functools.cache
def whole_command() -> Any:
    """`muybridge` with all its commands, as typer builds it: once."""
    from muybridge.cli.main import app

    return get_command(app)


def check_arguments(arguments: Sequence[str], but: Sequence[str] = ()) -> Any:
    """Read the arguments of a command; returns its context (typer's).

    Args:
        arguments: what follows `muybridge`.
        but: commands that are not taken here.

    Raises:
        UserError: what the command line would say of them: an unknown command or option, a value of another type.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a command of muybridge, such as: train recipes/world-vdm.yaml")
    if arguments[0] in but:
        raise UserError(f"{arguments[0]} is no long work; run it itself: muybridge {arguments[0]}")
    if "--help" in arguments:
        raise UserError(f"--help asks for no work; run it itself: muybridge {' '.join(arguments)}")
    command = whole_command()
    try:
        context = command.make_context("muybridge", list(arguments))
        while hasattr(command, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                break
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
    except typer.Exit as error:
        raise UserError(f"{' '.join(arguments)}: asks for no work") from error
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for arguments that it cannot read
            raise
        raise UserError(f"{' '.join(arguments[:2])}: {error.format_message() or 'its command is missing'}") from error
    return context
