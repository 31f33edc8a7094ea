"""The commands that make one video: extend, loop, connect, blend, interpolate, animate, inpaint, outpaint, cinemagraph,
upsample-fps, zero, control, instruct, edit, upscale, super-resolve, restyle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import typer

from muybridge.cli.made import add_command, argument
from muybridge.errors import UserError
from muybridge.making.continued import Extend, Interpolate, UpsampleFps
from muybridge.making.controlled import Control
from muybridge.making.edited import Edit, Instruct, Restyle
from muybridge.making.from_words import Animate, Zero
from muybridge.making.joined import Blend, Connect, Loop
from muybridge.making.painted import Inpaint, Outpaint
from muybridge.making.regions import Cinemagraph
from muybridge.making.upscaled import SuperResolve, Upscale

VIDEO = argument("video", Path, "The video.")
PICTURE = argument("image", Path, "A picture (.png, .jpg, .webp), or a video: its first frame.")


def register(app: typer.Typer) -> None:
    _register_longer(app)
    _register_regions(app)
    _register_redrawn(app)


def _register_longer(app: typer.Typer) -> None:
    """What makes a video longer, smoother or larger."""
    add_command(
        app, Extend, [VIDEO], "extended.mp4",
        'muybridge extend star.mp4 --prompt "a blue star moving up" --add-frames 12 -o longer.mp4', maker_of,
    )  # fmt: skip
    add_command(
        app, Loop, [VIDEO], "loop.mp4",
        'muybridge loop star.mp4 --prompt "a blue star moving up" -o loop.mp4', maker_of,
    )  # fmt: skip
    other = argument("other", str, "The video that follows.")
    add_command(
        app, Connect, [VIDEO, other], "connected.mp4",
        'muybridge connect star.mp4 ring.mp4 --prompt "a blue star" -o both.mp4', maker_of,
    )  # fmt: skip
    becomes = argument("other", str, "The video that it becomes.")
    add_command(
        app, Blend, [VIDEO, becomes], "blended.mp4",
        'muybridge blend cat.mp4 robot.mp4 --prompt "a robot cat" -o cat-to-robot.mp4',
    )  # fmt: skip
    add_command(
        app, Interpolate, [VIDEO], "interpolated.mp4",
        'muybridge interpolate star.mp4 --prompt "a blue star moving up" --factor 2 -o smooth.mp4', maker_of,
    )  # fmt: skip
    add_command(app, UpsampleFps, [VIDEO], "smooth.mp4", "muybridge upsample-fps dog.mp4 -o smooth.mp4")
    add_command(
        app, Upscale, [VIDEO], "large.mp4",
        "muybridge upscale dog.mp4 --model runs/my-cascade --space 2 --time 2 -o large.mp4",
        named_one("a cascade's folder or one of its stages (`muybridge models cascade`)"),
    )  # fmt: skip
    add_command(
        app, SuperResolve, [VIDEO], "large.mp4",
        'muybridge super-resolve small.mp4 --model runs/my-vdm/model --prompt "a blue star" --space 4 -o large.mp4',
    )  # fmt: skip


def _register_regions(app: typer.Typer) -> None:
    """What sets a picture in motion, and what draws a part of one or of a video."""
    add_command(app, Animate, [PICTURE], "alive.mp4", "muybridge animate dog.png -o dog.mp4 --motion 180")
    add_command(
        app, Inpaint, [VIDEO], "painted.mp4",
        'muybridge inpaint star.mp4 --mask corner.png --prompt "a blue star" -o painted.mp4', maker_of,
    )  # fmt: skip
    add_command(
        app, Outpaint, [VIDEO], "wider.mp4",
        'muybridge outpaint star.mp4 --left 16 --right 16 --prompt "a blue star" -o wider.mp4', maker_of,
    )  # fmt: skip
    add_command(
        app, Cinemagraph, [PICTURE], "cinemagraph.mp4",
        'muybridge cinemagraph lake.png --region 0,0.5,1,1 --prompt "a lake" --model runs/my-lumiere -o lake.mp4',
        named_one("a Lumiere model that was trained with diffusion.tasks"),
    )  # fmt: skip


def _register_redrawn(app: typer.Typer) -> None:
    """What needs no training of a video model, or draws a given video anew."""
    prompt = argument("prompt", str, "What the video shows.")
    add_command(
        app, Zero, [prompt], "zero.mp4",
        'muybridge zero "unicorn, fluent style" -o zero.mp4 --model ~/models/stable-diffusion-v1-5',
    )  # fmt: skip
    add_command(
        app, Control, [VIDEO, prompt], "controlled.mp4",
        'muybridge control dog.mp4 "tiger, fluent style" --control depth -o tiger.mp4',
    )  # fmt: skip
    instruction = argument("instruction", str, "What to change, as in 'make it snow'.")
    add_command(
        app, Instruct, [VIDEO, instruction], "instructed.mp4",
        'muybridge instruct walk.mp4 "make it snow" --model ~/models/instruct-pix2pix',
        named_one("an InstructPix2Pix folder"),
    )  # fmt: skip
    tuned = argument("folder", Path, "The folder that `muybridge tune` wrote.")
    add_command(
        app, Edit, [tuned, prompt], "edited.mp4", 'muybridge edit runs/tune-dog/model "cat, fluent style" -o cat.mp4',
        lambda folder, named: str(folder),
    )  # fmt: skip
    add_command(
        app, Restyle, [VIDEO], "restyled.mp4",
        'muybridge restyle dog.mp4 --content "robot, fluent style" --structure-level 1 -o robot.mp4',
    )  # fmt: skip


def maker_of(video: Path, named: str) -> str:
    """The model that was named, or the one that made the video from words, if it is still there."""
    from muybridge.data.video_io import read_recipe
    from muybridge.library.catalogue import find_model

    if named or not video.is_file():
        return named or Extend.default_model
    record = read_recipe(video)
    if record.get("command") in (
        "generate",
        *(m.command for m in (Extend, Interpolate, Loop, Connect, Inpaint, Outpaint)),
    ):
        with contextlib.suppress(UserError):
            find_model(str(record.get("model")))
            return str(record["model"])
    return Extend.default_model


def named_one(wanted: str) -> Callable[[Path, str], str]:
    """The model that was named, of commands for which none is bundled; `wanted` says which they take."""

    def of(video: Path, named: str) -> str:
        if not named:
            raise UserError(f"--model: give {wanted}; none is bundled")
        return named

    return of
