"""docs/reference.md, from the settings themselves: every key of every section, and every option of every command.

python -m benchmarks.reference          writes it
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from muybridge.cli.main import app
from muybridge.configuration import Setting, settings_table
from muybridge.data.registry import source_module, source_names
from muybridge.diffusion.schedule import SCHEDULES, ShiftedSchedule
from muybridge.learning.contract import System
from muybridge.learning.latent_diffusion import NoiseTable
from muybridge.models import NETWORKS
from muybridge.models.arguments import ARGUMENTS
from muybridge.models.plugins.registry import PLUGINS
from muybridge.models.text.encoder import TextConfig
from muybridge.opening.offers import offered, offers
from muybridge.pipelines.settings import SamplingConfig
from muybridge.training.recipe import Recipe, TrainingConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
HEAD = """# Reference

Written by `python -m benchmarks.reference` from the settings in the code; a test asserts that it is what the code says.
A value out of its range, an unknown key, a number that is not finite: each is refused with a message, before anything
runs. A recipe is a YAML file with the keys of the first table; [training.md](training.md) tells how one is written.
"""


def row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def table(rows: Iterable[tuple[str, str, str, str]], first: str = "key") -> list[str]:
    lines = [row((f"`{name}`", f"`{shown}`" if shown else "", limits, text)) for name, shown, limits, text in rows]
    return [row((first, "default", "range", "what it is")), "|---|---|---|---|", *lines, ""]


def settings_rows(cls: type) -> Iterator[tuple[str, str, str, str]]:
    """Of a dataclass; sections inside it are named, not shown."""
    for name, shown, limits, text in settings_table(cls):
        yield name, "its own section" if "(" in shown and shown[0].isupper() else shown or '""', limits, text


def arguments_rows(cls: Any) -> Iterator[tuple[str, str, str, str]]:
    """Of a network whose arguments are the section: from its signature, its docstring and models.arguments."""
    told = documented(cls)
    for name, known in inspect.signature(cls.__init__).parameters.items():
        if name in ("self", "image", "sites") or known.kind is known.VAR_KEYWORD:
            continue
        about = ARGUMENTS.get(name, Setting())
        limits = ", ".join(about.choices) if about.choices else about.range_text()
        shown = "required" if known.default is known.empty else str(known.default) or '""'
        yield name, shown, limits, told.get(name, "")


def documented(cls: type) -> dict[str, str]:
    """Argument -> what a docstring's Args say of it."""
    part = (inspect.getdoc(cls) or "").partition("Args:")[2]
    part = re.split(r"\n\n?(?:Attributes|Raises|Returns):", part)[0]
    told: dict[str, str] = {}
    for names, text in re.findall(r"^    ([\w, ]+): (.*(?:\n {6,}.*)*)", part, re.MULTILINE):
        for name in names.split(", "):
            told[name] = " ".join(text.split())
    return told


def recipe_part() -> list[str]:
    lines = ["## A recipe", "", *table(settings_rows(Recipe))]
    for title, cls in (("training", TrainingConfig), ("text", TextConfig), ("sampling", SamplingConfig)):
        lines += [f"## `{title}`", "", *table(settings_rows(cls))]
    return lines


def systems_part() -> list[str]:
    """Every system and part: its `model` section, and its `diffusion` or `objective`."""
    lines = ["## Systems and parts", ""]
    for name in sorted(offers("TRAINS")):
        cls: type[System] = offered("TRAINS", name, "system")
        summary = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
        lines += [f"### `system: {name}`", "", summary, ""]
        if cls.model_class is not None:
            lines += ["`model`:", "", *table(settings_rows(cls.model_class))]
        else:
            lines += [f"`model`: {documented(cls).get('model', 'arguments of its network')}", ""]
        if cls.config_class is not None:
            lines += [f"`{cls.section}`:", "", *table(settings_rows(cls.config_class))]
        if cls.network_class is not None:
            lines += [f"Arguments of {cls.network_class.__name__}:", "", *table(arguments_rows(cls.network_class))]
    return lines


def networks_part() -> list[str]:
    lines = ["## Networks of `vdm`", ""]
    for name, (module, cls) in NETWORKS.items():
        lines += [
            f"### `model.type: {name}`",
            "",
            *table(arguments_rows(getattr(importlib.import_module(module), cls))),
        ]
    lines += ["## Temporal layers (`model.temporal`)", ""]
    for name, cls in sorted(PLUGINS.items()):
        rows = list(arguments_rows(cls))
        lines += [f"### `{name}`", "", *(table(rows) if rows else ["It has no settings.", ""])]
    lines += ["## Noise tables (`diffusion.scheduler`)", "", *table(settings_rows(NoiseTable))]
    lines += ["## Noise schedules (`diffusion.schedule_options`)", ""]
    for name, cls in SCHEDULES.items():
        rows = [*settings_rows(cls), *(r for r in settings_rows(ShiftedSchedule) if r[0] == "kappa")]
        lines += [f"### `{name}`", "", *table(rows)]
    return lines


def data_part() -> list[str]:
    lines = ["## Data sources", ""]
    for name in source_names():
        module = source_module(name)
        summary = " ".join((module.__doc__ or "").partition("\n\n")[0].split()).partition(": ")[2]
        lines += [
            f"### `data.source: {name}`",
            "",
            summary[:1].upper() + summary[1:],
            "",
            *table(settings_rows(module.Config)),
        ]
    return lines


def commands_part() -> list[str]:
    """Every command's options, as its `--help` has them."""
    lines = ["## Commands", ""]
    for words, found in commands(get_command(app), ()):
        arguments = " ".join(p.name.upper() for p in found.params if p.param_type_name == "argument")
        text = re.sub(r"\[/?\w+\]", "", (found.help or "").partition("\n\n")[0])
        lines += [f"### `{' '.join(['muybridge', *words, arguments]).strip()}`", "", " ".join(text.split()), ""]
        rows = []
        for option in found.params:
            if option.param_type_name == "option" and option.name != "help":
                flags = "/".join([*option.opts, *option.secondary_opts])
                shown = "required" if option.required else "" if option.default in (None, [], ()) else option.default
                rows.append(row((f"`{flags}`", f"`{shown}`" if shown != "" else "", getattr(option, "help", "") or "")))
        if rows:
            lines += [row(("option", "default", "what it does")), "|---|---|---|", *rows, ""]
    return lines


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if getattr(inner, "commands", None):
            yield from commands(inner, (*words, name))
        else:
            yield (*words, name), inner


def page() -> str:
    """The whole page."""
    parts = (recipe_part, systems_part, networks_part, data_part, commands_part)
    return HEAD + "\n" + "\n".join(line for part in parts for line in part()).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(page().splitlines())} lines")
