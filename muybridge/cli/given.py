"""Which options a user gave, and the refusal of those that would be dropped."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Mapping

import typer

from muybridge.errors import UserError

#: The parameter of a command that asks which options were given (`given_options`).
CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def given_options(context: typer.Context) -> set[str]:
    """Names of the options and arguments that stand on the command line, whatever their values."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def check_read(given: Iterable[str], unread: Mapping[str, str], parameters: Iterable[inspect.Parameter]) -> None:
    """Refuse options that were given and would not be read.

    Args:
        unread: names of options that are not read here, and why.
        parameters: the command's, for the options' flags.

    Raises:
        UserError: names the option and says why.
    """
    known = {p.name: p for p in parameters}
    for name in sorted(set(given) & set(unread)):
        raise UserError(f"{_flag(known[name])}: not read here, {unread[name]}; leave it out")


def _flag(parameter: inspect.Parameter) -> str:
    """An option's name on the command line; typer takes the first of those it is declared with for a default."""
    about = typing.get_args(parameter.annotation)[1]
    named = next(str(d) for d in (about.default, *about.param_decls) if str(d).startswith("--"))
    return named.partition("/")[0]
