"""distill: a model that needs fewer network calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.console import plain_console
from muybridge.cli.given import CONTEXT, given_options
from muybridge.cli.made import OnDevice, argument, options_of, values_of, with_signature
from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.training.distillation_plan import DistillationPlan, plan_of_file

HELP = """Distil a model: its guidance in one call, then fewer and fewer sampling steps. The same command goes on.

[bold]muybridge distill runs/my-model/model --steps 8[/bold]
[bold]muybridge distill recipes/distillation/emoji-video.yaml[/bold]

Each phase is a run in a folder of its own, and its student is the next one's teacher. In the end ladder.png and
ladder.json show all of them side by side.
"""


@dataclass(frozen=True, kw_only=True)
class Distilling(OnDevice):
    """Where, and on what."""

    output: Path | None = setting(None, "folder of the phases; runs/distilled-NAME by default", short="o")


def register(app: typer.Typer) -> None:
    model = argument("model", str, "A model of ours, bundled or a folder; or a YAML file of these options.")
    options = [*options_of(DistillationPlan), *options_of(Distilling)]
    app.command("distill")(with_signature(distill, [model, *options, CONTEXT], HELP))


def distill(model: str, context: typer.Context, **values: Any) -> None:
    told = Distilling(**values_of(Distilling, values))
    if model.endswith((".yaml", ".yml")):
        beside = sorted(given_options(context) - {"model", "output", "device"})
        if beside:
            raise UserError(f"--{beside[0].replace('_', '-')}: {model} says it; change it there")
        teacher, plan = plan_of_file(Path(model))
        name = Path(model).stem
    else:
        teacher, plan = model, DistillationPlan(**values_of(DistillationPlan, values))
        path = Path(model)
        name = path.parent.name if path.name == "model" else path.name
    from muybridge.training.distilling import DistillationRun

    output = told.output or Path("runs") / f"distilled-{name}"
    run = DistillationRun(teacher, plan, output, plain_console(), told.device)
    made = run.run()
    typer.echo(f"{made}")
