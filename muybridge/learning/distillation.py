"""Learning from a trained model in place of data alone: its guidance in one call, then its steps two at a time.

    phase "guidance"  student(z, g, c) ~ teacher(z, ∅) + g (teacher(z, c) - teacher(z, ∅)),  g ~ U[low, high]
    phase N           one DDIM step of the student, of N, ~ two of the teacher, of 2 N

Source: 2210.03142 for both, 2202.00512 for the second; used by Imagen Video (2210.02303 section 2.7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from muybridge.configuration import Settings, from_mapping, setting
from muybridge.diffusion.distillation import guidance_target, progressive_target
from muybridge.diffusion.losses import WEIGHTINGS, mse_per_sample
from muybridge.diffusion.prediction import INTO, to_x
from muybridge.diffusion.process import diffuse
from muybridge.errors import UserError
from muybridge.files import sha256_of
from muybridge.learning.contract import Losses, System, TrainingBatch
from muybridge.learning.diffusion import DiffusionSystem
from muybridge.learning.draws import Draws
from muybridge.library.catalogue import find_model
from muybridge.library.index import index_of, settings_of
from muybridge.library.parts import put_weights, saved_weights, scheduler_of
from muybridge.models.guided import are_guided, takes_guidance, with_guidance
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.nn.layout import suit_cpu
from muybridge.pipelines.inflated import PROCESS


@dataclass(frozen=True)
class DistillationConfig(Settings):
    """A recipe's `distillation` section: the recipe of the teacher with it trains a student."""

    where: ClassVar[str] = "distillation"

    teacher: str = setting(..., "the model that is learned from: a bundled one, or a folder; of this recipe's system")
    steps: int = setting(
        0,
        "sampling steps of the student, which does in each what the teacher does in two; 0: it learns the teacher's "
        "guidance instead, as a network that is told the scale",
        low=0,
        high=500,
    )
    guidance: tuple[float, ...] = setting(
        (1.0, 8.0), "lowest and highest guidance scale that is learned", low=0, high=100, count=2
    )
    weights: str = setting(
        "", "SHA-256 of the teacher's weights; others are refused. `muybridge distill` writes it; empty takes any"
    )
    weighting: str = setting("truncated_snr", "of the error: truncated_snr is max(SNR, 1) of data", choices=WEIGHTINGS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.guidance[0] < self.guidance[1]:
            raise UserError(f"distillation.guidance: a lower and a higher scale, got {list(self.guidance)}")


class Distillation(System):
    """A phase of distillation, of any system that says it `distils`.

    Args:
        inner: the teacher's system, as its recipe made it.
        settings: fields of DistillationConfig.

    Raises:
        UserError: a system without students, or guidance of a model that reads no words.
    """

    def __init__(self, inner: System, settings: Mapping[str, Any]):
        self.distillation = from_mapping(DistillationConfig, settings, "distillation")
        if not (isinstance(inner, DiffusionSystem) and inner.distils):
            raise UserError(f"distillation: models of the system {inner.name} have no students")
        self.inner, self.steps = inner, self.distillation.steps
        self.text = inner.text
        if not self.steps and self.text is None:
            raise UserError(
                "distillation.steps: 0 learns guidance, but this model reads no words and is not guided; give the "
                "number of steps"
            )
        self.name, self.section, self.names_are_told = inner.name, inner.section, inner.names_are_told
        self.wants_first_frame, self.wants_pixels = inner.wants_first_frame, inner.wants_pixels
        self.images_per_video = inner.images_per_video

    @property
    def space(self) -> Any:  # type: ignore[override]
        return self.inner.space

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher's network, frozen.

        Raises:
            UserError: another model than the recipe's, or one whose guidance was learned already.
        """
        name, wanted = self.distillation.teacher, self.distillation.weights
        self._check_alike(name)
        if wanted and digest_of(name) != wanted:
            raise UserError(f"{name}: other weights than when this distillation began; begin anew in another folder")
        network = saved_network(self.inner, name)
        if not self.steps and takes_guidance(network):
            raise UserError(f"{name}: is told its guidance scale already; give distillation.steps")
        suit_cpu(network)
        return network.eval().requires_grad_(False)

    def _check_alike(self, name: str) -> None:
        """Refuse a teacher that is told of noise or words in another way than this recipe's network."""
        folder = find_model(name)
        said, wanted = {**index_of(folder), **settings_of(folder)}, self.inner.told_settings()
        pairs = [(key, said[key], value) for key, value in wanted.items() if key in said and key != "scheduler"]
        if "scheduler" in wanted:
            kept = said.get("scheduler")  # in an image model's index it is the name of a class
            table = kept if isinstance(kept, dict) else scheduler_of(name)
            pairs += [(key, table.get(key), wanted["scheduler"].get(key)) for key in PROCESS]
        for key, theirs, ours in pairs:
            if theirs != ours and (theirs or ours):
                raise UserError(
                    f"{name}: its {key} is {theirs!r}, this recipe says {ours!r}; distil a model with its own recipe"
                )

    @cached_property
    def is_told(self) -> bool:
        """Whether the student is told a guidance scale."""
        return not self.steps or takes_guidance(self.teacher)

    def build(self) -> nn.Module:
        """The student: the teacher, told a scale as well if it learns guidance. All of it trains."""
        student = self.inner.build()
        if self.is_told:
            student = with_guidance(student)
        student.load_state_dict(self.teacher.state_dict(), strict=False)
        if isinstance(student, InflatedUNet):
            student.temporal.train_image = True  # type: ignore[assignment]  # its folder holds the picture's layers
            student.register_to_config(temporal_config={**student.config.temporal_config, "train_image": True})
        return student

    def losses(self, model: nn.Module, batch: TrainingBatch) -> Losses:
        """w(lam) | target - student |^2 in the student's own prediction type, mean over all but the batch."""
        inner = self.inner
        batch = inner.prepared(batch)
        x, draws = batch.video, Draws(batch, "distillation")
        times, eps = draws.times(), inner.noise(batch, draws, x.shape[1:]).to(x)
        dropped = inner.dropped(batch, draws).to(x.device)
        low, high = self.distillation.guidance
        scale = (low + (high - low) * draws.shares()).to(x.device)
        told = scale if self.is_told else None
        with torch.no_grad():
            if self.steps:
                z, lam, target = self._of_two_steps(batch, x, eps, times, dropped, told)
            else:
                lam = inner.level(times, x)
                z = diffuse(x, eps, lam)
                target = self._guided(batch, z, lam, dropped, scale)
        output = inner.network_told(model, batch, dropped, told)(z, lam)
        return inner.weighed(mse_per_sample(output, target), lam, self.distillation.weighting)

    def _guided(self, batch: TrainingBatch, z: Tensor, lam: Tensor, dropped: Tensor, scale: Tensor) -> Tensor:
        """The guided teacher's output: guidance is the same in x, ε and v, which are affine in each other."""
        teacher = self.teacher.to(z.device)
        told, untold = (self.inner.network_told(teacher, batch, d) for d in (dropped, torch.ones_like(dropped)))
        return guidance_target(told, untold, z, lam, scale)

    def _of_two_steps(
        self, batch: TrainingBatch, x: Tensor, eps: Tensor, times: Tensor, dropped: Tensor, scale: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(z_t, its log-SNR, the target): where two steps of the teacher lead from a level of the student's grid."""
        grid, fine = self.inner.grid(self.steps), self.inner.grid(2 * self.steps)
        at = (times * self.steps).long().clamp(max=self.steps - 1)
        lam, mid, end = grid[at], fine[2 * at + 1], grid[at + 1]
        z = diffuse(x, eps, lam)
        network = self.inner.network_told(self.teacher.to(x.device), batch, dropped, scale)
        kind = self.inner.prediction_type

        def teacher(z: Tensor, lam: Tensor) -> Tensor:
            return to_x(network(z, lam), z, lam, kind)

        aim = progressive_target(teacher, z, lam, mid, end, torch.isinf(end).to(x.device))
        return z, lam, INTO[kind](aim, z, lam, "sample")

    def preview(self, model: Any, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        return self.inner.preview(model, prompts, self._sampling(sampling), clips)

    def save(self, model: Any, folder: Path, sampling: Mapping[str, Any]) -> None:
        self.inner.save(model, folder, self._sampling(sampling))

    def _sampling(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """A student knows the steps it was trained for, and no others."""
        return {**sampling, **({"num_inference_steps": self.steps, "sampler": "ddim"} if self.steps else {})}

    def trainable(self, model: Any) -> Sequence[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())


def saved_network(system: System, name: str) -> nn.Module:
    """The network of a saved model, built by its system; told a guidance scale if the saved one is.

    Raises:
        UserError: an unknown model, or weights that do not fit.
    """
    network, weights = system.build(), saved_weights(name)
    if are_guided(weights):
        network = with_guidance(network)
    put_weights(network, weights, name)
    return network


def digest_of(name: str) -> str:
    """SHA-256 over the names and bytes of a saved model's weights."""
    folder = find_model(name)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(f"{path.relative_to(folder)} {sha256_of(path)}".encode())
    return digest.hexdigest()
