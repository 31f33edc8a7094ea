"""data build, data show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.given import CONTEXT, check_read, given_options
from muybridge.cli.made import argument, options_of, values_of, with_signature
from muybridge.cli.outputs import check_outputs, places_in
from muybridge.configuration import Settings, setting
from muybridge.data.sources.emoji import EmojiBuild
from muybridge.data.sources.folder import FolderConfig
from muybridge.errors import UserError

app = typer.Typer(help="Build data sets and look at them.", no_args_is_help=True)
#: Of a folder's settings, those that `data build` takes; its size is the emoji's `size`.
OF_FOLDERS = ("fps", "picture_fps", "short", "max_pieces", "store")
#: What the building of one kind of set does not read of the other's.
NOT_OF_EMOJI = dict.fromkeys(("fps", "picture_fps", "short", "max_pieces"), "it is for folders of clips")
NOT_OF_FOLDERS = dict.fromkeys(("kind", "skin_tones", "packages"), "it is for emoji")


@dataclass(frozen=True, kw_only=True)
class Showing(Settings):
    """Show what a recipe trains on: numbers, captions, and with -o a sheet of clips as the network sees them."""

    output: Path | None = setting(None, "write a picture (.png) as well: one clip a row", short="o")
    count: int = setting(12, "how many clips", low=1, high=1000)
    split: str = setting(
        "train", "which part of the data; held_out is for world", choices=("train", "validation", "held_out")
    )


BUILDING = [*options_of(EmojiBuild), *options_of(FolderConfig, only=OF_FOLDERS)]
BUILD = "Decode a data set once into a compact store; everything dropped or trimmed is reported with its reason."


def build(context: typer.Context, source: str, **values: Any) -> None:
    check_read(given_options(context), NOT_OF_EMOJI if source == "emoji" else NOT_OF_FOLDERS, BUILDING)
    emoji = EmojiBuild(**values_of(EmojiBuild, values))
    told = {name: values[name] for name in OF_FOLDERS}
    config = FolderConfig(source, emoji.size, emoji.size, emoji.num_frames, **told)
    from muybridge.data.packs import PackedSource, report_lines

    store = Path(config.store).expanduser() if config.store else None
    if source == "emoji":
        from muybridge.data.emoji import build_emoji

        packages = Path(emoji.packages).expanduser() if emoji.packages else None
        made = build_emoji(
            emoji.kind, store, packages, emoji.size, emoji.num_frames, emoji.skin_tones,
            progress=lambda what, i, n: typer.echo(f"{i + 1}/{n} {what}"),
        )  # fmt: skip
    elif Path(source).is_dir():
        from muybridge.data.folder import build_folder

        made = build_folder(config)
    else:
        raise UserError(f"{source!r} is neither 'emoji' nor a folder; the generated world needs no building")
    counted: dict[str, int] = {}
    for line in report_lines(made):
        reason = f"{line['action']}: {line['reason'][:60]}"
        counted[reason] = counted.get(reason, 0) + 1
    for reason, count in sorted(counted.items(), key=lambda item: -item[1])[:12]:
        typer.echo(f"{count:6d}  {reason}")
    clips = len(PackedSource(made, "all", config.num_frames))
    typer.echo(f"{clips} clips in {made}; every line is in {made / 'report.jsonl'}")


def show(recipe: Path, **values: Any) -> None:
    told = Showing(**values_of(Showing, values))
    import numpy as np

    from muybridge.data.registry import make_source
    from muybridge.data.video_io import write_strip
    from muybridge.training.recipe import load_recipe

    parsed = load_recipe(recipe)
    if told.output is not None:
        check_outputs([told.output], [recipe, *places_in(parsed.data)], ["png"])
    source = make_source(parsed.data, told.split)
    clips = [source.clip(i) for i in range(min(told.count, len(source)))]
    frames = np.stack([c.frames for c in clips])
    typer.echo(
        f"{len(source)} clips of {frames.shape[1]} frames, {frames.shape[2]}x{frames.shape[3]}, {clips[0].fps:g} fps"
    )
    for clip in clips:
        typer.echo(f"  {clip.caption}")
    if parsed.text is not None:
        from muybridge.models.text.encoder import told_of_long_captions

        typer.echo(told_of_long_captions(source.captions(), parsed.text) or "every caption is read to its end")
    if told.output is not None:
        typer.echo(f"{write_strip(frames, told.output)}")


app.command("build")(
    with_signature(
        build,
        [CONTEXT, argument("source", str, "emoji, or a folder of captioned clips."), *BUILDING],
        BUILD,
    )
)
app.command("show")(
    with_signature(
        show, [argument("recipe", Path, "A recipe whose data is shown."), *options_of(Showing)], Showing.__doc__ or ""
    )
)
