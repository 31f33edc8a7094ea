"""compare: the same captions and seeds with several models, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.console import progress
from muybridge.cli.made import OnDevice, argument, options_of, values_of, with_signature
from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.evaluation.comparison.settings import Comparison
from muybridge.models.text.prompts import check_prompt
from muybridge.texts import lines_of, read_text

HELP = """Draw the same captions and seeds with several models; one page shows the videos and what each model costs.

[bold]muybridge compare emoji-video emoji-animate emoji-image --prompt "fox, fluent style" --scorer emoji-clip[/bold]

Models of words draw from them (generate), image models without training (zero), and models that are told a picture
bring one to life that --picture-model draws. Videos that are there already are kept, so the same command goes on.
"""


@dataclass(frozen=True, kw_only=True)
class Comparing(OnDevice):
    """Of what, and where."""

    prompt: tuple[str, ...] = setting((), "a caption; may be repeated")
    prompts: Path | None = setting(None, "a file with a caption a line, in place of --prompt")
    output: Path = setting(Path("compared"), "a new folder, or that of the same comparison, to go on", short="o")


def register(app: typer.Typer) -> None:
    models = argument("models", list[str], "Bundled models, or folders: two or more.")
    app.command("compare")(with_signature(run, [models, *options_of(Comparing), *options_of(Comparison)], HELP))


def run(models: list[str], **values: Any) -> None:
    told, comparison = Comparing(**values_of(Comparing, values)), Comparison(**values_of(Comparison, values))
    if bool(told.prompt) == (told.prompts is not None):
        raise UserError("give either captions, --prompt (which may be repeated), or --prompts FILE")
    lines = told.prompt if told.prompts is None else lines_of(read_text(told.prompts))
    captions = tuple(check_prompt(line.strip(), "a caption") for line in lines if line.strip())
    if not captions:
        raise UserError(f"{told.prompts or '--prompt'}: no caption in it; write one a line")
    from importlib.util import find_spec

    if find_spec("cv2") is None:
        raise UserError("compare needs OpenCV for flicker: pip install 'muybridge[curation]'")
    from muybridge.evaluation.comparison.run import compare

    with progress() as shown:
        tasks: dict[str, Any] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total)
            shown.update(tasks[name], completed=done)

        page = compare(tuple(models), captions, told.output, comparison, told.device, tell)
    typer.echo(f"{page}")
