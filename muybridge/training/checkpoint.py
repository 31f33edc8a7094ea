"""Checkpoints: whole or not there. Safetensors and JSON only; the newest whole one is where the same command goes
on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
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
from muybridge.files import read_mapping, sha256_of, write_json
from muybridge.training.ema import EMA
from muybridge.training.processes import main_decides

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
#: what trains, and buffers: a frozen network is where the run found it, and is not written at every checkpoint
TRAINED = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")


class CheckpointFolder:
    """Checkpoints of one run, `step-00001000/` each with what trains of the model, its EMA, and the optimizer.

    Args:
        folder: holds the checkpoints.
        keep: how many of the newest stay.
        frozen: digest of what does not train (`network.frozen_digest`), to tell when another network is put under it.
    """

    def __init__(self, folder: Path, keep: int = 2, frozen: str = ""):
        self.folder, self.keep, self.frozen = folder, keep, frozen

    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, ascending."""
        found = [p for p in self.folder.glob("step-*") if (p / "state.json").is_file()]
        return sorted(int(n) for n in (p.name.removeprefix("step-") for p in found) if n.isdecimal())

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def newest(self, say: Callable[[str], None] = lambda text: None) -> int:
        """The last step whose checkpoint is as it was written, 0 where there is none yet; damaged ones are told and
        passed over.

        Raises:
            UserError: all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            problem = self.damage(step)
            if not problem:
                return step
            say(f"{self.path(step)} is damaged ({problem}): passed over")
        if steps:
            raise UserError(f"{self.folder}: no checkpoint there is whole; remove them to start anew")
        return 0

    def go_on_from(self, say: Callable[[str], None]) -> int:
        """The step of the newest whole checkpoint; damaged later ones are put aside, so that they are never counted
        among those that are kept."""
        step = self.newest(say)
        for damaged in (s for s in self.steps() if s > step):
            aside = self.folder / f"damaged-{damaged:08d}"
            shutil.rmtree(aside, ignore_errors=True)
            self.path(damaged).rename(aside)
        return step

    def damage(self, step: int) -> str:
        """What of a finished checkpoint is not as it was written, in words; "" if nothing."""
        folder = self.path(step)
        try:
            written = read_mapping(folder / "state.json").get("files", {})
        except UserError:
            return "state.json cannot be read"
        for name in FILES:
            file, expected = folder / name, written.get(name)
            if not file.is_file():
                return f"{name} is missing"
            if expected is None:  # of a version that wrote no digests
                continue
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes, not {expected['bytes']}"
            if sha256_of(file) != expected["sha256"]:
                return f"{name} is not what was written"
        return ""

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA, state: dict[str, Any], main: bool
    ) -> None:
        """Write the checkpoint after `step` steps. Every process calls it; the main one writes.

        Raises:
            UserError: weights that are not finite, or a place that cannot be written; the last checkpoint stays.
        """
        weights: dict[str, Any] = get_model_state_dict(model, options=TRAINED)
        moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=FULL)
        averaged = {name: _whole(value) for name, value in ema.shadow.items()}
        main_decides(lambda: self._write(step, weights, moments, averaged, state), main)

    def _write(
        self,
        step: int,
        weights: dict[str, Any],
        moments: dict[str, Any],
        averaged: dict[str, Tensor],
        state: dict[str, Any],
    ) -> None:
        last = max(self.steps(), default=0)
        flat = {f"{n}|{k}": torch.as_tensor(v) for n, values in moments["state"].items() for k, v in values.items()}
        tables = dict(zip(FILES, (_packed(weights), _packed(averaged), _packed(flat)), strict=True))
        for table in tables.values():
            broken = next((n for n, t in table.items() if t.is_floating_point() and not bool(t.isfinite().all())), None)
            if broken is not None:
                raise UserError(
                    f"after step {step} {broken.partition('|')[0]} is not finite; no checkpoint was written, the "
                    f"last whole one is step {last}. Lower training.learning_rate and run the same command again"
                )
        target, unfinished = self.path(step), self.folder / f"unfinished-{step:08d}"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            for name, table in tables.items():
                save_file(table, unfinished / name)
                _flush(unfinished / name)
            files = {n: {"bytes": (unfinished / n).stat().st_size, "sha256": sha256_of(unfinished / n)} for n in FILES}
            write_json(unfinished / "state.json", {**state, "step": step, "frozen": self.frozen, "files": files})
            if target.exists():
                shutil.rmtree(target)
            unfinished.rename(target)
            _flush(self.folder)
        except (OSError, SafetensorError, UserError) as error:  # safetensors has an error of its own for a full disk
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"the checkpoint of step {step} could not be written to {self.folder} ({reason}); "
                f"the last whole one is step {last}. Free some space and run the same command again"
            ) from error
        before = [s for s in self.steps() if s < step]  # the one that was just written stays, whatever else is there
        for old in before[: len(before) - self.keep + 1] if len(before) >= self.keep else []:
            shutil.rmtree(self.path(old))

    def load(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> dict[str, Any]:
        """Restore everything of a step; returns its state.

        Raises:
            UserError: what does not train is no longer what it was.
        """
        folder = self.path(step)
        state = self._state(step)
        weights: dict[str, Any] = dict(load_file(folder / "model.safetensors"))
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, strict=False))
        # its parameter groups; the moments come from the file (gathering would leave them on the main process alone)
        moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer)
        loaded: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(folder / "optimizer.safetensors").items():
            name, _, field = key.rpartition("|")
            loaded.setdefault(name, {})[field] = value
        moments["state"] = loaded
        set_optimizer_state_dict(model, optimizer, moments, options=whole)
        averaged = load_file(folder / "ema.safetensors")
        for name, shadow in ema.shadow.items():
            _assign(shadow, averaged[name])
        return state

    def put_averaged(self, step: int, model: nn.Module) -> None:
        """Give a network, built as the run built it, the averaged weights of a step.

        Raises:
            UserError: what does not train is no longer what it was.
        """
        folder = self.path(step)
        self._state(step)
        weights = load_file(folder / "model.safetensors") | load_file(folder / "ema.safetensors")
        lacking, unknown = model.load_state_dict(weights, strict=False)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        wrong = [*unknown, *sorted(trained.intersection(lacking))]
        if wrong:
            raise UserError(
                f"{folder}: not a checkpoint of this network ({len(wrong)} tensors, the first is {wrong[0]})"
            )

    def _state(self, step: int) -> dict[str, Any]:
        """What was noted with a step, once it is sure that it stands on the same frozen network."""
        folder = self.path(step)
        state = read_mapping(folder / "state.json")
        noted = state.get("frozen", "")  # an older version wrote the frozen network itself
        if noted and noted != self.frozen:
            raise UserError(
                f"{folder}: the network behind what trains has changed since this run began (its picture model, or "
                "what training.start_from names); put the old one back, or start anew in another --output"
            )
        return state


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


def _flush(path: Path) -> None:
    """Onto the disk, so that a power cut leaves no name without its bytes."""
    if path.is_dir() and os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
