"""A recipe: everything a training run is, in one YAML file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.configuration import from_mapping, to_mapping
from muybridge.errors import UserError, nearest
from muybridge.learning.contract import System
from muybridge.models.text.encoder import TextConfig
from muybridge.opening.training import build_system

OPTIMIZERS = ("adamw", "muon")
DECAYS = ("constant", "cosine", "tail")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    Attributes:
        steps: optimizer steps.
        batch_size: global: over all processes and accumulation rounds.
        accumulation: forward passes a step.
        optimizer: "adamw", or "muon" (orthogonalised momentum for matrices, AdamW for the rest).
        learning_rate, betas, weight_decay, eps: of the optimizer.
        warmup_steps: linear rise from zero; then by `decay` "constant", "cosine" (to zero at `steps`), or "tail" (constant,
            then straight to zero over the last fifth: `steps` may still change before that. Source: 2405.18392).
        clip_norm: largest norm of the gradient, 0 for none.
        ema: decay of the averaged weights; ramps up as (1 + k) / (10 + k).
        precision: "fp32", "bf16" or "fp16" (autocast; fp16 needs a GPU).
        gradient_checkpointing: recompute activations to save memory.
        checkpoint_every, keep_checkpoints: steps between checkpoints, and how many stay.
        log_every: steps between log lines.
        validate_every, validation_clips: steps between held-out losses, and clips in each.
        sample_every, sample_prompts: steps between sample strips (0 for none), and what they show.
        threads: CPU threads (0 leaves torch's choice).
        workers: threads that make batches while steps compute; results do not depend on them. 0 makes each when it is needed.
        sharded: spread weights, gradients, optimizer and average over the processes (FSDP2) instead of a copy in each.
        start_from: a model (bundled name or folder; for an autoencoder its part, as "emoji-image/vae") whose weights a new run
            starts from; "" starts fresh.
    """

    steps: int = 10000
    batch_size: int = 16
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.0
    eps: float = 1e-8
    warmup_steps: int = 200
    decay: str = "constant"
    clip_norm: float = 1.0
    ema: float = 0.9999
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    validate_every: int = 500
    validation_clips: int = 64
    sample_every: int = 500
    sample_prompts: tuple[str, ...] = ()
    threads: int = 0
    workers: int = 2
    sharded: bool = False
    start_from: str = ""

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.batch_size % self.accumulation:
            raise UserError(
                f"training.batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}"
            )
        if self.decay not in DECAYS:
            raise UserError(f"training.decay: unknown {self.decay!r}; {nearest(self.decay, DECAYS)}")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"training.optimizer: unknown {self.optimizer!r}; {nearest(self.optimizer, OPTIMIZERS)}")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UserError(f"training.precision: unknown {self.precision!r}; Known: fp32, bf16, fp16")
        if self.sharded and (self.optimizer == "muon" or self.precision == "fp16"):
            raise UserError("training.sharded: takes optimizer adamw and precision fp32 or bf16")

    def _check_numbers(self) -> None:
        least = dict.fromkeys(("steps", "batch_size", "accumulation", "checkpoint_every", "keep_checkpoints"), 1)
        least |= dict.fromkeys(("log_every", "validate_every", "validation_clips"), 1)
        least |= dict.fromkeys(
            ("warmup_steps", "clip_norm", "weight_decay", "eps", "sample_every", "threads", "workers"), 0
        )
        for name, low in least.items():
            if not low <= getattr(self, name) < math.inf:  # NaN is neither
                raise UserError(f"training.{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise UserError(f"training.learning_rate must be in (0, 1), got {self.learning_rate}")
        if not 0 <= self.ema < 1:
            raise UserError(f"training.ema must be in [0, 1), got {self.ema}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"training.betas must be two numbers in [0, 1), got {list(self.betas)}")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: of the model it makes; the run's default folder is runs/NAME.
        system: which system trains.
        seed: root of all randomness.
        model: the network's own settings.
        diffusion: schedule, weighting and conditioning, for systems that diffuse.
        objective: weights of the losses, for those that do not (autoencoders).
        text: the caption encoder; null for none.
        data: {"source": name, ...its settings}.
        sampling: the model's default sampling settings.
    """

    name: str
    system: str
    model: dict[str, Any]
    data: dict[str, Any]
    seed: int = 0
    diffusion: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    text: TextConfig | None = None
    training: TrainingConfig = TrainingConfig()
    sampling: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return to_mapping(self)


def make_system(recipe: Recipe) -> System:
    """The system a recipe names, with its settings."""
    return build_system(recipe.system, recipe.model, recipe.diffusion, recipe.objective, recipe.text)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserError: no such file, not YAML, or a key or value that is not known (the nearest name is offered).
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no recipe at {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML recipe: {error}") from error
    recipe = from_mapping(Recipe, values, str(path))
    if Path(recipe.name).name != recipe.name or recipe.name in ("", ".", ".."):
        raise UserError(f"{path}: name {recipe.name!r} must be a plain name without folders")
    return recipe


def lasting_part(key: str, value: Any) -> Any:
    """What of a recipe's section must not change between resumes: everything but bookkeeping."""
    free = {"steps", "log_every", "validate_every", "validation_clips", "sample_every", "sample_prompts"}
    free |= {"checkpoint_every", "keep_checkpoints", "threads", "workers", "sharded"}
    if key == "training" and isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in free or (k == "steps" and value.get("decay") == "cosine")}
    if key == "sampling":
        value = None
    return json.loads(json.dumps(value, sort_keys=True))
