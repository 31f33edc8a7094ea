"""Forms made from the dataclasses that the command line's options are made from."""

from __future__ import annotations

import dataclasses
import shlex
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.cli.made import Common, is_pairs
from muybridge.cli.parsing import whole_command
from muybridge.configuration import setting_of
from muybridge.making.base import Making
from muybridge.pipelines.settings import SamplingConfig

#: Options of every command that a page has no use for: where it runs is the machine's choice.
NOT_HERE = ("device", "precision", "seed")
#: Settings that are a user's file.
FILES = ("mask",)


@dataclass(frozen=True)
class Field:
    """One setting of a form.

    Attributes:
        name: the dataclass' field.
        flag: the option; "" for a positional argument.
        help: one line, with the range.
        kind: "switch", "choice", "number", "words", "lines" (several, one a line), "numbers" (with
            spaces between them), "file".
        choices: of a choice.
        default: None leaves it to the command.
        off: a switch's option when it is off.
    """

    name: str
    flag: str
    help: str
    kind: str
    choices: tuple[Any, ...] = ()
    default: Any = None
    off: str = ""

    @property
    def label(self) -> str:
        return (self.flag.removeprefix("--") or self.name).replace("-", " ").replace("_", " ")


def _command(name: str) -> Any:
    command = whole_command()
    for word in name.split():
        command = command.commands[word]
    return command


def fields_of(command: str, classes: Sequence[tuple[type, Sequence[str] | None]]) -> list[Field]:
    """The settings that a command takes from dataclasses.

    Args:
        command: its name on the command line.
        classes: each with the names that are taken of it; None takes all.
    """
    parameters = {p.name: p for p in _command(command).params}
    if "folder" in parameters and parameters["folder"].param_type_name == "argument":
        parameters.pop("model", None)  # `edit`: the folder is the model
    found: dict[str, Field] = {}
    for cls, only in classes:
        hints = typing.get_type_hints(cls)
        for known in dataclasses.fields(cls):
            taken = known.name in parameters and known.name not in NOT_HERE and (only is None or known.name in only)
            if taken and known.name not in found:
                found[known.name] = _field(known, hints[known.name], parameters[known.name])
    return list(found.values())


def fields_of_making(cls: type[Making]) -> list[Field]:
    """Own options, sampling settings and what all commands share."""
    return fields_of(cls.command, [(cls, None), (SamplingConfig, cls.reads), (Common, None)])


def sources_of(cls: type[Making]) -> list[str]:
    """Positional arguments that are files: no fields of the dataclass, but for `connect` and `blend`'s other video."""
    own = {f.name for f in dataclasses.fields(cls)} - {"other"}
    return [p.name for p in _command(cls.command).params if p.param_type_name == "argument" and p.name not in own]


def _field(known: dataclasses.Field[Any], hint: Any, parameter: Any) -> Field:
    about = setting_of(known)
    inner = [h for h in typing.get_args(hint) if h is not type(None)]
    bare = inner[0] if type(None) in typing.get_args(hint) else hint
    default = parameter.default if isinstance(parameter.default, bool | int | float | str) else None
    if bare is bool:
        kind = "switch"
    elif about.choices and bare in (str, int, float):
        kind = "choice"
    elif bare in (int, float):
        kind = "number"
    elif (typing.get_origin(bare) is tuple and (is_pairs(bare) or Ellipsis in typing.get_args(bare))) or is_pairs(bare):
        kind = "lines"
    elif typing.get_origin(bare) is tuple:
        kind = "numbers"
    elif known.name in FILES:
        kind = "file"
    else:
        kind = "words"
    limits = "" if kind == "choice" else about.range_text()
    text = about.help + (f" ({limits})" if limits else "")
    is_argument = parameter.param_type_name == "argument"
    return Field(
        known.name, "" if is_argument else parameter.opts[0], text, kind,
        tuple(c for c in about.choices if c != ""), default, (parameter.secondary_opts or [""])[0],
    )  # fmt: skip


def arguments_of(command: str, fields: Sequence[Field], values: Mapping[str, Any]) -> list[str]:
    """The command line of a filled-in form: what differs from the defaults, positional arguments last.

    Args:
        values: by the fields' names, and by the names of positional arguments that are none of them.
    """
    given: list[str] = []
    for one in fields:
        value = values.get(one.name)
        if one.flag and value not in (None, "") and value != one.default and str(value) != str(one.default):
            given += _option(one, value)
    by_name = {one.name: one for one in fields}
    positional = [p.name for p in _command(command).params if p.param_type_name == "argument"]
    words = [str(values[n]) for n in positional if values.get(n) is not None and (n in by_name or values[n] != "")]
    behind = ["--"] if any(word.startswith("-") for word in words) else []
    return [*command.split(), *given, *behind, *words]


def _option(one: Field, value: Any) -> list[str]:
    if one.kind == "switch":
        return [one.flag] if value else [one.off]
    if one.kind == "lines":
        lines = [line.strip() for line in str(value).splitlines() if line.strip()]
        return [token for line in lines for token in (one.flag, line)]
    texts = str(value).split() if one.kind == "numbers" else [str(value)]
    return [one.flag, *texts]


def shown_command(arguments: Sequence[str]) -> str:
    """The command that makes the same, for a terminal: its output under its name alone."""
    shown = list(arguments)
    for flag in ("-o", "--output"):
        if flag in shown:
            place = shown.index(flag) + 1
            shown[place] = Path(shown[place]).name
    return shlex.join(["muybridge", *shown])
