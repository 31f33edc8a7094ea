"""tune: an image model on one video, so that `edit` changes what that video shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from muybridge.cli.console import steps_bar
from muybridge.cli.made import OnDevice, argument, lora_file, options_of, values_of, with_signature
from muybridge.configuration import setting
from muybridge.errors import UserError
from muybridge.nn.devices import AUTO, PRECISIONS
from muybridge.systems.tune_a_video.settings import TUNING, tuning_data


@dataclass(frozen=True, kw_only=True)
class Tuning(OnDevice):
    """What `tune` is told."""

    caption: str = setting(..., "what the video shows, in the words of the image model")
    folder: str = setting("", "of the run; runs/tune-NAME by default. The tuned model lies in FOLDER/model")
    model: str = setting("emoji-image", "an image model: bundled, or a Stable Diffusion folder")
    lora: tuple[str, ...] = setting(
        (), "a LoRA merged into the image model first: FILE or a bundled one, with :SCALE or without; may be repeated"
    )
    num_frames: int = setting(24, "frames at most; memory grows with it", low=1, high=1000)
    first: int = setting(0, "the first frame taken", low=0)
    stride: int = setting(1, "every which frame is taken", low=1)
    height: int | None = setting(None, "pixels; the image model's own by default", low=8)
    width: int | None = setting(None, "pixels", low=8)
    train_steps: int = setting(300, "optimizer steps; too many bring back the source", low=1)
    learning_rate: float = setting(3e-5, "3e-5 in the paper, for large models", above=0, below=1)
    iterations: int = setting(5, "of each inversion step; 1 is approximate", low=1, high=100)
    steps: int = setting(50, "sampling steps of the inversion, and of every edit", low=1, high=1000)
    seed: int = setting(0, "of the run")
    precision: str = setting(
        AUTO, "of the training step: auto is bf16 on an accelerator, which halves its memory, and fp32 on a CPU",
        choices=(AUTO, *PRECISIONS),
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        True, "compute activations again in the backward pass: a third slower, at 512 pixels a seventh of the memory"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption.strip():
            raise UserError('--caption: say what the video shows, as in --caption "dog face, fluent style"')


HELP = """Tune an image model on one video (Tune-A-Video); then `edit` it with new words. The same command goes on.

[bold]muybridge tune dog.mp4 --caption "dog face, fluent style"[/bold]
[bold]muybridge edit runs/tune-dog/model "cat, fluent style"[/bold]
"""


def register(app: typer.Typer) -> None:
    video = argument("video", Path, "The video to tune on.")
    app.command("tune")(with_signature(tune, [video, *options_of(Tuning)], HELP))


def tune(video: Path, **values: Any) -> None:
    told = Tuning(**values_of(Tuning, values))
    folder = Path(told.folder) if told.folder else Path("runs") / f"tune-{video.stem}"
    if not video.is_file():
        raise UserError(f"no video at {video}")
    from muybridge.library.catalogue import find_model

    find_model(told.model)
    for text in told.lora:
        lora_file(text)
    from muybridge.nn.devices import device_named
    from muybridge.training.trainer import Trainer

    precision = told.precision
    if precision == AUTO:
        precision = "fp32" if device_named(told.device).type == "cpu" else "bf16"
    told = replace(told, precision=precision)
    recipe = recipe_of(told, folder, video)
    Trainer(recipe, folder, device=told.device).run()
    _invert(folder / "model", recipe.data, told)
    typer.echo(f'{folder / "model"}: edit it with  muybridge edit {folder / "model"} "..."')


def recipe_of(told: Tuning, folder: Path, video: Path) -> Any:
    """The training recipe of a tuning."""
    from muybridge.models.text.encoder import reads_with_clip
    from muybridge.opening.sampling import load_pipeline
    from muybridge.training.recipe import Recipe, TextConfig, TrainingConfig

    picture: Any = load_pipeline(told.model, "cpu")
    if "unet" not in dir(picture.network) and not hasattr(picture.network, "down_blocks"):
        raise UserError(
            f"{told.model}: not an image model; give a bundled one (emoji-image) or a Stable Diffusion folder"
        )
    wanted = int(picture.network.config.in_channels)
    if wanted != picture.space.channels:
        raise UserError(
            f"{told.model}: its network takes {wanted} channels, a picture beside the noisy latents (InstructPix2Pix): "
            "tune a model of words"
        )
    own = picture.settings()
    size = {"height": told.height or own.height, "width": told.width or own.width}
    model = Path(told.model).expanduser()
    image = str(model.resolve()) if model.is_dir() else told.model
    files = [lora_file(text) for text in told.lora]
    for file, scale in files:
        picture.use_lora(file, scale)  # refused or told of before anything trains
    loras = tuple(f"{file.resolve()}:{scale!r}" for file, scale in files)
    clip = reads_with_clip(picture.config.text_encoder)
    training = {
        "steps": told.train_steps, "learning_rate": told.learning_rate, "precision": told.precision,
        "gradient_checkpointing": told.gradient_checkpointing, **TUNING,
    }  # fmt: skip
    return Recipe(
        name=folder.name,
        system="tune_a_video",
        seed=told.seed,
        model={"image": image, **({"lora": list(loras)} if loras else {})},
        text=TextConfig(picture.config.text_encoder, picture.config.text_max_length, loras if clip else ()),
        data=tuning_data(video.resolve(), told.caption, told.num_frames, told.first, told.stride, size),
        training=TrainingConfig(**training),
        sampling={
            **picture.config.sampling, **size, "num_frames": told.num_frames, "num_inference_steps": told.steps,
            "sampler": "ddim",
        },
    )  # fmt: skip


def _invert(model: Path, data: dict[str, Any], told: Tuning) -> None:
    """Find and keep the noise that the tuned model turns into the video."""
    from muybridge.data.registry import make_source
    from muybridge.files import record_written, sha256_of
    from muybridge.library.catalogue import INVERSION
    from muybridge.library.index import SETTINGS, settings_of, write_settings
    from muybridge.nn.frames import from_uint8
    from muybridge.opening.sampling import load_pipeline
    from muybridge.pipelines.inversion import invert
    from muybridge.systems.tune_a_video.inversion import found_with, save_inversion

    clip = make_source(data).clip(0)
    values = settings_of(model)
    values["sampling"] |= {"num_frames": len(clip.frames), "fps": clip.fps}
    write_settings(model, values)
    record_written(model, [SETTINGS])
    # noise belongs to the weights and the settings that it was found with, and stays where they are the same
    weights = [sha256_of(p) for p in sorted(model.rglob("*.safetensors")) if p.name != INVERSION]
    found = f"steps {told.steps}, iterations {told.iterations}, weights {' '.join(weights)}"
    if found_with(model) == found:
        return
    pipeline = load_pipeline(str(model), told.device, precision=told.precision)
    samples = pipeline.to_samples(from_uint8(clip.frames)[None])
    steps = pipeline.settings().num_inference_steps
    with steps_bar("inverting", steps) as advance:
        save_inversion(invert(pipeline, samples, told.iterations, advance), steps, model, found)
