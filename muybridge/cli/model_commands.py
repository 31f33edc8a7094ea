"""models, models import, models export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.console import bytes_text, command, plain_console

app = typer.Typer(help="List the bundled models; say what a user's own files are.", invoke_without_command=True)


@app.callback()
@command
def models(context: typer.Context) -> None:
    """List the bundled models."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    from muybridge.library.catalogue import bundled_models, model_hash, sampling_of

    table = Table("name", "frames", "size", "steps", "weights", "hash", "what it is")
    for name, folder in bundled_models().items():
        sampling = sampling_of(folder)
        weights = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
        card = folder / "README.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        what = next((line for line in lines if line and not line.startswith(("#", "!", "-"))), "")
        size = f"{sampling['height']}x{sampling['width']}"
        row = (name, str(sampling["num_frames"]), size, str(sampling["num_inference_steps"]))
        table.add_row(*row, bytes_text(weights), model_hash(folder), what)
    plain_console().print(table)


@app.command("import")
@command
def import_(
    path: Annotated[Path, typer.Argument(help="A .safetensors file, or a folder of diffusers or transformers.")],
) -> None:
    """Say what a model file or folder is, what it needs and what it costs in memory. Nothing is loaded or fetched.

    [bold]muybridge models import ~/models/stable-diffusion-v1-5[/bold]
    """
    from rich.table import Table

    from muybridge.opening.identify import identify

    found = identify(path.expanduser())
    table = Table(show_header=False)
    table.add_row("what it is", found.kind)
    table.add_row("used by", found.used_by)
    table.add_row("parameters", f"{found.parameters:,}")
    table.add_row("weights on disk", bytes_text(found.file_bytes))
    table.add_row("in memory, float32", bytes_text(found.memory_bytes))
    for note in found.notes:
        table.add_row("note", note)
    for need in found.needs:
        table.add_row("needs", need)
    plain_console().print(table)


@app.command("export")
@command
def export_(
    model: Annotated[str, typer.Argument(help="A bundled model, or the folder of one.")],
    output: Annotated[Path, typer.Argument(help="The new folder.")],
) -> None:
    """Write a model as files that diffusers loads without muybridge: an image model as a whole folder, text encoder
    included; motion modules as a MotionAdapter; a Stable Video network as a UNetSpatioTemporalConditionModel, a decoder
    with time that was trained from its own as an AutoencoderKLTemporalDecoder.

    [bold]muybridge models export emoji-image my-model[/bold]
    """
    from muybridge.library.export import export_diffusers

    typer.echo(f"{export_diffusers(model, output)}")


@app.command("convert")
@command
def convert_(
    file: Annotated[Path, typer.Argument(help="A Stable Diffusion or ControlNet .safetensors file (CompVis names).")],
    output: Annotated[Path, typer.Argument(help="The new folder.")],
    prediction: Annotated[str, typer.Option(help="epsilon or v_prediction, where the file does not say (2.x).")] = "",
) -> None:
    """Write a single-file checkpoint as a diffusers folder. Commands take the file itself too, and keep its folder in
    the cache.

    [bold]muybridge models convert v2-1_768.safetensors sd21 --prediction v_prediction[/bold]
    """
    from muybridge.errors import UserError
    from muybridge.library.converted import convert, is_single_file

    if prediction not in ("", "epsilon", "v_prediction"):
        raise UserError(f"--prediction: expected epsilon or v_prediction, got {prediction!r}")
    if not is_single_file(file.expanduser()):
        raise UserError(f"{file}: no .safetensors file there")
    if output.exists():
        raise UserError(f"{output}: is there already; choose a new folder")
    typer.echo(f"{convert(file.expanduser(), output.expanduser(), prediction)}")


@app.command("cascade")
@command
def cascade(
    stages: Annotated[list[Path], typer.Argument(help="Folders of trained stages, the base first.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder.")],
) -> None:
    """Put the trained stages of a cascade (Imagen Video) together in one folder, which `generate` and `upscale` take.

    [bold]muybridge models cascade runs/base/model runs/faster/model runs/larger/model -o my-cascade[/bold]
    """
    from muybridge.systems.imagen_video.pipeline import save_cascade

    typer.echo(f"{save_cascade([stage.expanduser() for stage in stages], output.expanduser())}")


@app.command("make-a-video")
@command
def make_a_video(
    stages: Annotated[list[Path], typer.Argument(help="Folders of trained networks, the decoder first.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder.")],
) -> None:
    """Put the trained networks of Make-A-Video together in one folder, which `generate` takes.

    The decoder, then frame interpolation and super-resolvers, from small to large, as many as there are.

    [bold]muybridge models make-a-video runs/decoder/model runs/between/model runs/sr/model -o my-model[/bold]
    """
    from muybridge.systems.make_a_video.whole import save_make_a_video

    typer.echo(f"{save_make_a_video([stage.expanduser() for stage in stages], output.expanduser())}")


@app.command("lumiere")
@command
def lumiere(
    stages: Annotated[list[Path], typer.Argument(help="Folders of the base model and its super-resolvers.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder.")],
) -> None:
    """Put a Lumiere base model and its super-resolvers together in one folder, which `generate`, `inpaint` and
    `cinemagraph` take.

    [bold]muybridge models lumiere runs/base/model runs/sr/model -o my-lumiere[/bold]
    """
    from muybridge.systems.lumiere.pipeline import save_lumiere

    typer.echo(f"{save_lumiere([stage.expanduser() for stage in stages], output.expanduser())}")
