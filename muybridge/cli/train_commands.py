"""train, plan, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.console import bytes_text, command, time_text

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe; see recipes/.")]

DeviceName = Annotated[
    str, typer.Option("--device", help="auto (the machine's accelerator, else its CPU), cpu, cuda, cuda:1, mps.")
]


def register(app: typer.Typer) -> None:
    for function in (train, plan, export):
        app.command()(function)


@command
def train(
    recipe: RecipePath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; runs/NAME by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train to this step instead of the recipe's last.")] = None,
    device: DeviceName = "auto",
) -> None:
    """Train a recipe. The same command goes on from the newest checkpoint.

    Ctrl-C finishes the step, saves a checkpoint and stops. For several processes or machines (docs/training.md):

    [bold]python -m torch.distributed.run --nproc_per_node 2 -m muybridge.cli.main train recipes/world-vdm.yaml[/bold]
    """
    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(recipe)

    from muybridge.training.trainer import Trainer

    trainer = Trainer(parsed, output or Path("runs") / parsed.name, device=device)
    folder = trainer.run(until=steps)
    if trainer.main:
        typer.echo(f"{folder}")


@command
def plan(recipe: RecipePath, device: DeviceName = "auto") -> None:
    """Say what a recipe needs before it runs: parameters, memory, time, disk, from a probe of a few steps."""
    import tempfile

    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(recipe)

    from rich.console import Console
    from rich.table import Table

    from muybridge.training.plan import plan_run

    with tempfile.TemporaryDirectory() as scratch:
        found = plan_run(parsed, Path(scratch), device)
    table = Table(
        title=f"{parsed.name}: {parsed.training.steps:,} steps of {parsed.training.batch_size}", show_header=False
    )
    table.add_row("parameters", f"{found.parameters:,}")
    table.add_row("of them trained", f"{found.trainable:,}")
    table.add_row("weights, gradients, AdamW, EMA", bytes_text(found.state_bytes))
    table.add_row("peak memory (measured)", f"{bytes_text(found.peak_bytes)} of {bytes_text(found.available_bytes)}")
    table.add_row("time a step (measured)", time_text(found.seconds_per_step))
    table.add_row("time of all steps", time_text(found.seconds))
    table.add_row("disk for checkpoints", bytes_text(found.disk_bytes))
    Console().print(table)
    if found.advice:
        typer.secho(found.advice, fg="yellow")


@command
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    output: Annotated[Path, typer.Argument(help="The model folder to write.")],
    half: Annotated[bool, typer.Option(help="Write the weights in half precision.")] = True,
) -> None:
    """Save the averaged weights of a run's newest checkpoint as a model folder."""
    from muybridge.training.export import export_run

    typer.echo(f"{export_run(run, output, half)}")
