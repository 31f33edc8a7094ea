"""What a distillation is told: options of a command, or keys of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.documents import read_yaml
from muybridge.errors import UserError

MAX_STEPS = 10**9


@dataclass(frozen=True, kw_only=True)
class DistillationPlan(Settings):
    """What `distill` is told; also the keys of a YAML file that it takes in place of a model."""

    where: ClassVar[str] = "distill"

    recipe: str = setting(
        "", "the recipe that the model was trained by, for its settings and its data; by default that of its run"
    )
    steps: int = setting(8, "sampling steps of the last student", low=1, high=500)
    first_steps: int = setting(64, "of the teacher: `steps` times a power of two", low=2, high=1000)
    lowest_guidance: float = setting(1.0, "guidance scale that the student may be told; 1 is off", low=0, high=100)
    highest_guidance: float = setting(8.0, "guidance scale that the student may be told", low=0, high=100)
    guidance_training: int = setting(
        2000, "training steps of the phase that learns guidance; 0 leaves it out", low=0, high=MAX_STEPS
    )
    halving_training: int = setting(1000, "training steps of each halving", low=1, high=MAX_STEPS)
    learning_rate: float = setting(
        1e-4, "of the phase that learns guidance; falls to 0 over its last fifth", above=0, below=1
    )
    halving_learning_rate: float = setting(
        1e-5, "of each halving, whose student starts close to its target; likewise", above=0, below=1
    )
    batch_size: int | None = setting(None, "samples a step; the recipe's by default", low=1, high=10**6)
    ema: float = setting(0.99, "decay of the averaged weights", low=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lowest_guidance < self.highest_guidance:
            raise UserError(
                f"distill: lowest_guidance {self.lowest_guidance:g} must be below highest_guidance "
                f"{self.highest_guidance:g}"
            )
        if self.first_steps not in {self.steps * 2**k for k in range(1, 11)}:
            raise UserError(
                f"distill: first_steps {self.first_steps} must be steps {self.steps} times a power of two: each phase "
                "halves them"
            )

    def halvings(self) -> list[int]:
        """Steps of the students: of the first half the teacher's, of each further half the one's before."""
        out = [self.first_steps // 2]
        while out[-1] > self.steps:
            out.append(out[-1] // 2)
        return out


def plan_of_file(path: Path) -> tuple[str, DistillationPlan]:
    """(teacher, plan) of a YAML file: `teacher`, and the fields of DistillationPlan.

    Raises:
        UserError: no such file, no teacher, or a key or value that is not known.
    """
    values = read_yaml(path)
    teacher = values.pop("teacher", None)
    if not isinstance(teacher, str) or not teacher:
        raise UserError(f"{path}: teacher: name the model that is distilled: a bundled one, or a folder")
    return teacher, from_mapping(DistillationPlan, values, str(path))
