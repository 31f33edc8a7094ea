"""From a run's newest checkpoint to a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import check_replaceable, read_mapping, whole_folder
from muybridge.learning.contract import System
from muybridge.models.weights.compact import pack_file
from muybridge.models.weights.opening import cast
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.network import first_network, frozen_digest
from muybridge.training.recipe import Recipe, make_system


def export_run(run: Path, target: Path, half: bool = True, packed: bool = False) -> Path:
    """Write the EMA weights as a pipeline folder; an existing one is replaced only when the new one is whole.

    Args:
        half: in half precision.
        packed: matrices in 8 bits (models.compact), for folders that only muybridge opens.

    Raises:
        UserError: no run or no checkpoint there.
    """
    path = run / "recipe.json"
    if not path.is_file():
        raise UserError(f"{run}: no run there (recipe.json is missing)")
    recipe = from_mapping(Recipe, read_mapping(path), str(path))
    checkpoints = CheckpointFolder(run / "checkpoints")
    if not checkpoints.steps():
        raise UserError(f"{run}: no whole checkpoint yet")
    check_replaceable(target, ("*",), "a model", is_model)
    step = checkpoints.newest()
    system = make_system(recipe)
    model = first_network(recipe, system)
    checkpoints.frozen = frozen_digest(model)
    checkpoints.put_averaged(step, model)
    if half:
        cast(model, torch.float16)
    return save_model(system, model, target, recipe.sampling, packed)


def save_model(
    system: System, model: nn.Module, target: Path, sampling: Mapping[str, Any], packed: bool = False
) -> Path:
    """Write a system's model folder whole: beside, then renamed."""
    with whole_folder(target, ("*",), "a model", is_model) as unfinished:
        system.save(model, unfinished, sampling)
        for path in unfinished.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes for the owner alone
            if packed:
                pack_file(path)
        for extra in target.iterdir() if target.is_dir() else ():  # what the run did not make stays: a card, a decoder
            if not (unfinished / extra.name).exists():
                copy = shutil.copy2 if extra.is_file() else shutil.copytree
                copy(extra, unfinished / extra.name)
    return target


def is_model(folder: Path) -> bool:
    """Whether a folder is a saved model, or a part of one, as `System.save` writes it."""
    return any((folder / name).is_file() for name in ("model_index.json", "config.json"))
