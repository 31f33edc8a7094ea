"""A recipe: everything a training run is, in one YAML file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from muybridge.configuration import Settings, from_mapping, from_names, setting, to_mapping
from muybridge.data.registry import source_settings
from muybridge.documents import read_yaml
from muybridge.errors import UserError
from muybridge.learning.contract import System
from muybridge.models.text.encoder import TextConfig
from muybridge.nn.devices import PRECISIONS
from muybridge.opening.training import build_system
from muybridge.pipelines.settings import SamplingConfig, sampling_settings

OPTIMIZERS = ("adamw", "muon")
DECAYS = ("constant", "cosine", "tail")
#: More steps, or steps between two events, than any run has.
MAX_STEPS = 10**9


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How long and how fast."""

    where: ClassVar[str] = "training"

    steps: int = setting(10000, "optimizer steps", low=1, high=MAX_STEPS)
    batch_size: int = setting(16, "global: over all processes and accumulation rounds", low=1, high=10**6)
    accumulation: int = setting(1, "forward passes a step; the same result in less memory", low=1, high=10**6)
    optimizer: str = setting(
        "adamw", "muon is orthogonalised momentum for matrices and AdamW for the rest", choices=OPTIMIZERS
    )
    learning_rate: float = setting(3e-4, "of the optimizer", above=0, below=1)
    betas: tuple[float, float] = setting((0.9, 0.99), "of AdamW's two running means", low=0, below=1, count=2)
    weight_decay: float = setting(0.0, "of the optimizer", low=0, high=100)
    eps: float = setting(1e-8, "of the optimizer", low=0, high=1)
    warmup_steps: int = setting(200, "linear rise of the learning rate from zero", low=0, high=MAX_STEPS)
    decay: str = setting(
        "constant",
        "of the learning rate after that: cosine goes to zero at `steps`; tail is constant, then "
        "straight to zero over the last fifth, so that `steps` may still change before (2405.18392)",
        choices=DECAYS,
    )
    clip_norm: float = setting(1.0, "largest norm of the gradient; 0 for none", low=0)
    ema: float = setting(0.9999, "decay of the averaged weights; ramps up as (1 + k) / (10 + k)", low=0, below=1)
    precision: str = setting("fp32", "of the step, by autocast; fp16 needs a GPU", choices=tuple(PRECISIONS))
    gradient_checkpointing: bool = setting(False, "compute activations again in the backward pass, to save memory")
    checkpoint_every: int = setting(500, "steps between checkpoints", low=1, high=MAX_STEPS)
    keep_checkpoints: int = setting(2, "how many checkpoints stay", low=1, high=10**6)
    log_every: int = setting(10, "steps between log lines", low=1, high=MAX_STEPS)
    validate_every: int = setting(500, "steps between held-out losses", low=1, high=MAX_STEPS)
    validation_clips: int = setting(64, "clips in each held-out loss", low=1, high=10**6)
    sample_every: int = setting(500, "steps between sample strips; 0 for none", low=0, high=MAX_STEPS)
    sample_prompts: tuple[str, ...] = setting((), "what the strips show")
    threads: int = setting(0, "CPU threads; 0 leaves torch's choice", low=0, high=1024)
    workers: int = setting(
        2,
        "threads that make batches while steps compute; results do not depend on them. 0 makes each when it is needed",
        low=0,
        high=256,
    )
    sharded: bool = setting(
        False, "spread weights, gradients, optimizer and average over the processes (FSDP2) in place of a copy in each"
    )
    start_from: str = setting(
        "",
        "a model whose weights a new run starts from: a bundled name or a folder; for an autoencoder its part, as "
        "emoji-image/vae",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.accumulation:
            raise UserError(
                f"training.batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}"
            )
        if self.sharded and (self.optimizer == "muon" or self.precision == "fp16"):
            raise UserError("training.sharded: takes optimizer adamw and precision fp32 or bf16")


@dataclass(frozen=True)
class Recipe(Settings):
    """A training run."""

    name: str = setting(..., "of the model it makes, without folders; the run's default folder is runs/NAME")
    system: str = setting(..., "which system trains")
    model: dict[str, Any] = setting(..., "the network's own settings")
    data: dict[str, Any] = setting(..., "{source: NAME, ...its settings}")
    seed: int = setting(0, "root of all randomness")
    diffusion: dict[str, Any] = setting({}, "schedule, weighting and conditioning, for systems that diffuse")
    objective: dict[str, Any] = setting({}, "weights of the losses, for those that do not (autoencoders)")
    text: TextConfig | None = setting(None, "the caption encoder; null for none")
    distillation: dict[str, Any] = setting(
        {}, "of a phase of distillation: its teacher, and what a student learns; `muybridge distill` writes it"
    )
    training: TrainingConfig = setting(TrainingConfig(), "how long and how fast")
    sampling: dict[str, Any] = setting({}, "the model's default sampling settings; sizes are the data's unless given")

    def __post_init__(self) -> None:
        super().__post_init__()
        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise UserError(f"name {self.name!r} must be a plain name without folders")

    def as_dict(self) -> dict[str, Any]:
        return to_mapping(self)


def make_system(recipe: Recipe) -> System:
    """The system a recipe names, with its settings."""
    return build_system(
        recipe.system, recipe.model, recipe.diffusion, recipe.objective, recipe.text, recipe.distillation
    )


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserError: no such file, not YAML, a key or value that is not known (the nearest name is offered), or one out of
            range.
    """
    values = read_yaml(Path(path))
    recipe = from_mapping(Recipe, values, str(path))
    shape = clip_shape(source_settings(recipe.data))
    sampling_settings({}, from_names(SamplingConfig, recipe.sampling, "sampling"))
    return replace(recipe, sampling={**shape, **recipe.sampling})


def clip_shape(data: Settings) -> dict[str, int]:
    """Length and size of a source's clips, as sampling settings: what a model samples at unless its recipe says
    otherwise. Empty for sources that take them from others."""
    side = getattr(data, "size", None)
    found = {name: getattr(data, name, side) for name in ("height", "width")}
    found["num_frames"] = getattr(data, "num_frames", None)
    return {name: value for name, value in found.items() if value}


def lasting_part(key: str, value: Any) -> Any:
    """What of a recipe's section must not change between resumes: everything but bookkeeping."""
    free = {"steps", "log_every", "validate_every", "validation_clips", "sample_every", "sample_prompts"}
    free |= {"checkpoint_every", "keep_checkpoints", "threads", "workers", "sharded"}
    if key == "training" and isinstance(value, dict):
        value = {
            k: v
            for k, v in value.items()
            if k not in free or (k == "steps" and value.get("decay") in ("cosine", "tail"))
        }
    if key == "text" and isinstance(value, dict) and not value.get("lora"):  # recipes from before it was there
        value = {k: v for k, v in value.items() if k != "lora"}
    if key == "sampling" or (key == "distillation" and not value):  # recipes from before it was there
        value = None
    return json.loads(json.dumps(value, sort_keys=True))
