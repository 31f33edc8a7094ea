"""Checkpoints: whole or not there. Safetensors and JSON only; the newest whole one is where the same command goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from muybridge.errors import UserError
from muybridge.files import write_json
from muybridge.training.ema import EMA

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class CheckpointFolder:
    """Checkpoints of one run, `step-00001000/` each with model, EMA and optimizer.

    Args:
        folder: holds the checkpoints.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Steps with a whole checkpoint, ascending."""
        found = [p for p in self.folder.glob("step-*") if (p / "state.json").is_file()]
        return sorted(int(p.name.removeprefix("step-")) for p in found)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA, state: dict[str, Any], main: bool
    ) -> None:
        """Write the checkpoint after `step` steps. Every process calls it; the main one writes."""
        weights: dict[str, Any] = get_model_state_dict(model, options=FULL)
        moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=FULL)
        averaged = {name: _whole(value) for name, value in ema.shadow.items()}
        if not main:
            return
        target, unfinished = self.path(step), self.folder / f"unfinished-{step:08d}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            save_file(_packed(weights), unfinished / "model.safetensors")
            save_file(_packed(averaged), unfinished / "ema.safetensors")
            flat = {f"{n}|{k}": torch.as_tensor(v) for n, values in moments["state"].items() for k, v in values.items()}
            save_file(_packed(flat), unfinished / "optimizer.safetensors")
            write_json(unfinished / "state.json", {**state, "step": step})
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise UserError(
                f"the checkpoint of step {step} could not be written to {self.folder} ({error.strerror or error}); "
                f"the last whole one is step {max(self.steps(), default=0)}. Free some space and run the same command again"
            ) from error
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))

    def load(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> dict[str, Any]:
        """Restore everything of a step; returns its state."""
        folder = self.path(step)
        weights: dict[str, Any] = dict(load_file(folder / "model.safetensors"))
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, weights, options=whole)
        moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=FULL)
        loaded: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(folder / "optimizer.safetensors").items():
            name, _, field = key.rpartition("|")
            loaded.setdefault(name, {})[field] = value
        moments["state"] = loaded
        set_optimizer_state_dict(model, optimizer, moments, options=whole)
        averaged = load_file(folder / "ema.safetensors")
        for name, shadow in ema.shadow.items():
            _assign(shadow, averaged[name])
        return dict(json.loads((folder / "state.json").read_text()))


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


@torch.no_grad()
def _assign(target: Tensor, value: Tensor) -> None:
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)  # type: ignore[attr-defined]
    target.copy_(value)
