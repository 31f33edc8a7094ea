"""`muybridge`: words to video, and the training, measuring and data work behind it."""

from __future__ import annotations

import typer

from muybridge.cli import (
    about_commands,
    compare_command,
    curate_commands,
    data_commands,
    distill_command,
    job_commands,
    making_commands,
    model_commands,
    sample_commands,
    studio_command,
    train_commands,
    tune_command,
)

app = typer.Typer(
    name="muybridge",
    help="Video diffusion models from the same few parts: sample, extend, train, measure.",
    epilog='Start with:  muybridge generate "unicorn, fluent style" -o unicorn.mp4',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
sample_commands.register(app)
making_commands.register(app)
tune_command.register(app)
train_commands.register(app)
distill_command.register(app)
compare_command.register(app)
studio_command.register(app)
about_commands.register(app)
app.add_typer(model_commands.app, name="models")
app.add_typer(data_commands.app, name="data")
app.add_typer(curate_commands.app, name="curate")
app.add_typer(job_commands.app, name="jobs")


@app.callback(invoke_without_command=True)
def version_option(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from muybridge import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    app()


if __name__ == "__main__":
    main()
