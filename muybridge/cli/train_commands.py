"""train, plan, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.console import bytes_text, plain_console, time_text
from muybridge.cli.given import CONTEXT
from muybridge.cli.made import OnDevice, argument, options_of, values_of, with_signature
from muybridge.cli.peaks import plan_command
from muybridge.configuration import Settings, setting
from muybridge.errors import UserError
from muybridge.making.replay import MAKINGS
from muybridge.nn.devices import AUTO

#: The commands that `plan` counts.
SAMPLING_COMMANDS = tuple(MAKINGS)


@dataclass(frozen=True, kw_only=True)
class Training(OnDevice):
    """Train a recipe. The same command goes on from the newest checkpoint.

    Ctrl-C finishes the step, saves a checkpoint and stops. For several processes or machines (docs/training.md):

    [bold]python -m torch.distributed.run --nproc_per_node 2 -m muybridge.cli.main train recipes/world-vdm.yaml[/bold]
    """

    output: Path | None = setting(None, "folder of the run; runs/NAME by default", short="o")
    steps: int | None = setting(None, "train to this step instead of the recipe's last", low=1, high=10**9)


@dataclass(frozen=True, kw_only=True)
class Planning(OnDevice):
    """Say what a recipe needs before it runs: parameters, memory, time, disk, from a probe of a few steps; or what a
    command that samples takes of memory, counted at its first network call.

    [bold]muybridge plan recipes/world-vdm.yaml[/bold]
    [bold]muybridge plan animate picture.png --model ~/models/svd --memory low[/bold]
    """


@dataclass(frozen=True, kw_only=True)
class Exporting(Settings):
    """Save the averaged weights of a run's newest checkpoint as a model folder."""

    half: bool = setting(True, "write the weights in half precision")


def register(app: typer.Typer) -> None:
    recipe = argument("recipe", Path, "A YAML recipe; see recipes/.")
    folders = [
        argument("run", Path, "The folder of a run."), argument("output", Path, "The model folder to write."),
    ]  # fmt: skip
    planned = argument("recipe", str, "A YAML recipe, or a command that samples, with its arguments and options.")
    for name, told, function, arguments in (
        ("train", Training, train, [recipe]),
        ("plan", Planning, plan, [CONTEXT, planned]),
        ("export", Exporting, export, folders),
    ):
        taken = {"allow_extra_args": True, "ignore_unknown_options": True} if name == "plan" else None
        made = with_signature(function, [*arguments, *options_of(told)], told.__doc__ or "")
        app.command(name, context_settings=taken)(made)


def train(recipe: Path, **values: Any) -> None:
    told = Training(**values_of(Training, values))
    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(recipe)

    from muybridge.training.trainer import Trainer

    trainer = Trainer(parsed, told.output or Path("runs") / parsed.name, device=told.device)
    folder = trainer.run(until=told.steps)
    if trainer.main:
        typer.echo(f"{folder}")


def plan(context: typer.Context, recipe: str, **values: Any) -> None:
    told = Planning(**values_of(Planning, values))
    if recipe in SAMPLING_COMMANDS:
        where = [] if told.device == AUTO else ["--device", told.device]
        plan_command(context, recipe, [*context.args, *where])
        return
    if context.args:
        raise UserError(
            f"plan: {context.args[0]!r} was not expected behind a recipe; with further arguments it takes one of "
            f"{', '.join(SAMPLING_COMMANDS)}"
        )
    import tempfile

    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(Path(recipe))

    from rich.table import Table

    from muybridge.training.plan import plan_run

    with tempfile.TemporaryDirectory() as scratch:
        found = plan_run(parsed, Path(scratch), told.device)
    table = Table(
        title=f"{parsed.name}: {parsed.training.steps:,} steps of {parsed.training.batch_size}", show_header=False
    )
    table.add_row("parameters", f"{found.parameters:,}")
    table.add_row("of them trained", f"{found.trainable:,}")
    table.add_row("weights, gradients, AdamW, EMA", bytes_text(found.state_bytes))
    table.add_row(
        "peak memory (measured)", f"{bytes_text(found.peak_bytes, bound=True)} of {bytes_text(found.available_bytes)}"
    )
    table.add_row("time a step (measured)", time_text(found.seconds_per_step))
    table.add_row("time of all steps", time_text(found.seconds))
    table.add_row("disk for checkpoints", bytes_text(found.disk_bytes))
    plain_console().print(table)
    if found.told:
        typer.echo(f"note: {found.told}")
    if found.advice:
        typer.secho(found.advice, fg="yellow")


def export(run: Path, output: Path, **values: Any) -> None:
    told = Exporting(**values_of(Exporting, values))
    from muybridge.training.export import export_run

    typer.echo(f"{export_run(run, output, told.half)}")
