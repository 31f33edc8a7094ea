"""data build, data show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.console import command
from muybridge.errors import UserError

app = typer.Typer(help="Build data sets and look at them.", no_args_is_help=True)


@app.command()
@command
def build(
    source: Annotated[str, typer.Argument(help="emoji, or a folder of captioned clips.")],
    kind: Annotated[str, typer.Option(help="For emoji: animations or stills.")] = "animations",
    store: Annotated[Path | None, typer.Option(help="Where the decoded clips go; a cache folder by default.")] = None,
    packages: Annotated[Path | None, typer.Option(help="For emoji: a folder with the npm archives.")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    num_frames: Annotated[int, typer.Option(help="Frames of a clip.")] = 16,
    fps: Annotated[float, typer.Option(help="For a folder: the rate clips are resampled to, 0 keeps their own.")] = 8.0,
    short: Annotated[str, typer.Option(help="For a folder: what happens to short clips: drop, hold or loop.")] = "drop",
) -> None:
    """Decode a data set once into a compact store; everything dropped or trimmed is reported with its reason."""
    from muybridge.data.packs import PackedSource, report_lines

    if source == "emoji":
        from muybridge.data.emoji import build_emoji

        made = build_emoji(
            kind, store, packages, size, num_frames, progress=lambda w, i, n: typer.echo(f"{i + 1}/{n} {w}")
        )
    elif Path(source).is_dir():
        from muybridge.data.folder import FolderConfig, build_folder

        made = build_folder(FolderConfig(source, size, size, num_frames, fps, short, store=str(store or "")))
    else:
        raise UserError(f"{source!r} is neither 'emoji' nor a folder; the generated world needs no building")
    counted: dict[str, int] = {}
    for line in report_lines(made):
        reason = f"{line['action']}: {line['reason'][:60]}"
        counted[reason] = counted.get(reason, 0) + 1
    for reason, count in sorted(counted.items(), key=lambda item: -item[1])[:12]:
        typer.echo(f"{count:6d}  {reason}")
    typer.echo(
        f"{len(PackedSource(made, 'all', num_frames))} clips in {made}; every line is in {made / 'report.jsonl'}"
    )


@app.command()
@command
def show(
    recipe: Annotated[Path, typer.Argument(help="A recipe whose data is shown.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A picture: one clip a row.")] = Path("data.png"),
    count: Annotated[int, typer.Option(help="How many clips.")] = 12,
    split: Annotated[str, typer.Option(help="train, validation (or held_out for world).")] = "train",
) -> None:
    """Show what a recipe trains on: numbers, captions, and a sheet of clips exactly as the network sees them."""
    import numpy as np

    from muybridge.data.registry import make_source
    from muybridge.data.video_io import write_strip
    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(recipe)
    source = make_source(parsed.data, split)
    clips = [source.clip(i) for i in range(min(count, len(source)))]
    frames = np.stack([c.frames for c in clips])
    typer.echo(
        f"{len(source)} clips of {frames.shape[1]} frames, {frames.shape[2]}x{frames.shape[3]}, {clips[0].fps:g} fps"
    )
    for clip in clips:
        typer.echo(f"  {clip.caption}")
    typer.echo(f"{write_strip(frames, output)}")
