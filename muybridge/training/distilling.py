"""A whole distillation: the teacher's guidance in one call, then half the steps, and half of those, ... .

Each phase is a run of the trainer in a folder of its own, which resumes as every run does; its student is the next
phase's teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.learning.distillation import Distillation, digest_of
from muybridge.library.catalogue import find_model
from muybridge.library.parts import saved_weights
from muybridge.models.guided import are_guided
from muybridge.nn.devices import AUTO
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.distillation_plan import DistillationPlan
from muybridge.training.ladder import write_ladder
from muybridge.training.recipe import Recipe, TrainingConfig, load_recipe, make_system
from muybridge.training.run_folder import check_free
from muybridge.training.trainer import Trainer

GUIDANCE = "guidance"


@dataclass(frozen=True)
class Phase:
    """One run.

    Attributes:
        name: of its folder: "guidance", or "steps-N".
        recipe: what it trains; its teacher is the model of the phase before.
    """

    name: str
    recipe: Recipe


class DistillationRun:
    """Runs the phases of a plan in a folder; the same call goes on.

    Args:
        teacher: a bundled model or a folder.
        folder: holds a run folder for each phase, and the ladder at the end.

    Raises:
        UserError: a model that cannot be distilled, or no recipe of it.
    """

    def __init__(
        self, teacher: str, plan: DistillationPlan, folder: Path, console: Console | None = None, device: str = AUTO
    ):
        self.teacher, self.plan, self.folder, self.device = teacher, plan, folder, device
        self.console = console or Console(markup=False)
        self.base = recipe_of(teacher, plan.recipe)
        system = make_system(replace(self.base, distillation={"teacher": teacher, "steps": plan.steps}))
        assert isinstance(system, Distillation)
        self.system = system.inner
        self.guided = system.text is not None and not are_guided(saved_weights(teacher))

    def phases(self) -> Iterator[Phase]:
        """The phases; each must have ended before the next is asked for, whose teacher it makes."""
        teacher, plan = self.teacher, self.plan
        names = [(GUIDANCE, 0)] if self.guided and plan.guidance_training else []
        for name, steps in [*names, *((f"steps-{n}", n) for n in plan.halvings())]:
            changes: dict[str, Any] = {
                "steps": plan.halving_training if steps else plan.guidance_training,
                "learning_rate": plan.halving_learning_rate if steps else plan.learning_rate,
                "optimizer": "adamw", "decay": "tail", "ema": plan.ema, "start_from": "",
            }  # fmt: skip
            if plan.batch_size:
                changes["batch_size"] = plan.batch_size
            learned = {
                "teacher": teacher, "weights": digest_of(teacher), "steps": steps,
                "guidance": [plan.lowest_guidance, plan.highest_guidance],
            }  # fmt: skip
            recipe = replace(
                self.base,
                name=f"{self.base.name}-{name}",
                distillation=learned,
                training=_shortened(replace(self.base.training, **changes)),
            )
            yield Phase(name, recipe)
            teacher = str(self.folder / name / "model")

    def run(self) -> Path:
        """Train every phase that has not ended, then measure all; returns the last student's folder.

        Raises:
            KeyboardInterrupt, UserError: as Trainer.run.
        """
        students: list[tuple[str, int, Path]] = []
        for phase in self.phases():
            folder, steps = self.folder / phase.name, int(phase.recipe.distillation["steps"])
            if not self._has_ended(phase, folder):
                told = f"{steps} steps of {2 * steps}" if steps else "the guided teacher in one call"
                self.console.print(f"{phase.name}: {told}")
                Trainer(phase.recipe, folder, self.console, cache=self.folder / "cache", device=self.device).run()
            students.append((phase.name, steps, folder / "model"))
        write_ladder(self.folder, self.base, self.system, self.teacher, self.plan.first_steps, students, self.device)
        return students[-1][2]

    @staticmethod
    def _has_ended(phase: Phase, folder: Path) -> bool:
        if not (folder / "model").is_dir():
            return False
        check_free(folder, phase.recipe)
        checkpoints = CheckpointFolder(folder / "checkpoints")
        return bool(checkpoints.steps()) and checkpoints.newest() == phase.recipe.training.steps


def recipe_of(model: str, path: str = "") -> Recipe:
    """The recipe that a model was trained by: a file, or that of the run in which its folder lies.

    Raises:
        UserError: there is none.
    """
    if path:
        return load_recipe(path)
    own = find_model(model).resolve().parent / "recipe.json"
    if not own.is_file():
        raise UserError(
            f"{model}: the recipe that it was trained by is not beside it; give --recipe FILE, which says what it "
            "learned from"
        )
    return from_mapping(Recipe, read_mapping(own), str(own))


def _shortened(training: TrainingConfig) -> TrainingConfig:
    """What the recipe's own, longer run says of its course, for a short one."""
    fits = {
        name: min(getattr(training, name), training.steps)
        for name in ("warmup_steps", "checkpoint_every", "validate_every", "log_every")
    }
    fits["warmup_steps"] = min(fits["warmup_steps"], training.steps // 10)
    return replace(training, **fits, sample_every=0)
