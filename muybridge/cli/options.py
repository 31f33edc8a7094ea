"""Options and helpers that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muybridge.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

Model = Annotated[str, typer.Option(help="A bundled model, or the folder of a saved one.")]
Seed = Annotated[int, typer.Option(help="One number, one video: the same seed gives the same frames.")]
NumFrames = Annotated[int | None, typer.Option(help="Frames of one pass; the model's own number by default.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps, 1 to 1000.")]
SamplerName = Annotated[
    str | None, typer.Option("--sampler", help="ddim, ancestral, dpmpp_2m, dpmpp_2m_sde, distilled.")
]
Guidance = Annotated[float | None, typer.Option("--guidance-scale", help="1 is off; higher follows the words more.")]
GuidanceStart = Annotated[float | None, typer.Option(help="Share of the run, 0 to 1, before which nothing is guided.")]
GuidanceEnd = Annotated[
    float | None, typer.Option(help="Share of the run from which on nothing is guided: those steps cost less.")
]
ContextScale = Annotated[
    float | None, typer.Option(help="Higher follows the given frames more; 1 is off and takes half the network calls.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str,
    typer.Option(help="fp32, bf16 or (GPUs) fp16: half the memory of weights; bf16 is faster where it is built in."),
]
Fps = Annotated[float | None, typer.Option(help="Frames a second of the file.")]
Height = Annotated[int | None, typer.Option(help="Pixels.")]
Width = Annotated[int | None, typer.Option(help="Pixels.")]
Lora = Annotated[
    list[str], typer.Option(help="A LoRA: FILE or a bundled one, with :SCALE or without; may be repeated.")
]
MakerModel = Annotated[
    str,
    typer.Option("--model", help="By default the model that made the video, as its recipe says; world-vdm for others."),
]
Upscale = Annotated[int, typer.Option(help="Enlarge the written frames by a whole factor, without smoothing.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write: .mp4, .gif, .webp or .npy.")]
Method = Annotated[str, typer.Option(help="reconstruction (guidance) or replacement.")]
Weight = Annotated[float, typer.Option(help="Weight w_r of reconstruction guidance.")]


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Repeat pixels, uint8 [F, H, W, 3] -> [F, factor H, factor W, 3]."""
    return frames if factor == 1 else frames.repeat(factor, 1).repeat(factor, 2)


def given_settings(**values: Any) -> dict[str, Any]:
    """The settings that were given."""
    return {k: v for k, v in values.items() if v is not None}


def check_outputs(model: str, paths: list[Path], upscale: int) -> None:
    """Check everything that can be checked before a model is opened.

    Raises:
        UserError: an unknown model, a factor out of range, or a file that cannot be written.
    """
    from muybridge.data.video_io import FORMATS
    from muybridge.files import check_writable
    from muybridge.systems.model_folders import find_model

    find_model(model)
    if not 1 <= upscale <= 64:
        raise UserError(f"--upscale must be in 1..64, got {upscale}")
    for path in paths:
        ending = path.suffix.lower().removeprefix(".")
        if ending not in FORMATS:
            raise UserError(
                f"{path}: cannot write {path.suffix or 'a file without ending'}; {nearest(ending, FORMATS)}"
            )
    check_writable(paths[0])


def open_checked(
    model: str,
    settings: dict[str, Any],
    paths: list[Path],
    upscale: int,
    device: str,
    precision: str,
    picture: str = "",
) -> Any:
    """Check everything that can be checked cheaply, then open the model."""
    check_outputs(model, paths, upscale)

    from muybridge.systems.loading import load_pipeline

    pipeline = load_pipeline(model, device, picture=picture, precision=precision)
    pipeline.settings(**settings)
    return pipeline


def use_loras(pipeline: Any, loras: list[str]) -> None:
    """Merge what `--lora` names, in order."""
    for text in loras:
        from muybridge.models.lora import parse_lora
        from muybridge.systems.model_folders import find_lora

        name, scale = parse_lora(text)
        pipeline.use_lora(find_lora(name), scale)
