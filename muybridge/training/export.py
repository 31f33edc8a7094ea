"""From a run's newest checkpoint to a model folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import check_replaceable, read_mapping, whole_folder
from muybridge.learning.contract import System
from muybridge.models.text.vocabulary import Vocabulary
from muybridge.models.weights.compact import pack_file
from muybridge.models.weights.opening import cast
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.network import first_network, frozen_digest
from muybridge.training.recipe import Recipe, lasting_part, make_system


def export_run(run: Path, target: Path, half: bool = True, packed: bool = False) -> Path:
    """Write the EMA weights as a pipeline folder.

    Args:
        target: a new or an empty folder, or one that this run was exported to before: it is replaced when the new one
            is whole, and what a user added there stays.
        half: in half precision.
        packed: matrices in 8 bits (models.compact), for folders that only muybridge opens.

    Raises:
        UserError: no run or no checkpoint there, or a target that holds anything else.
    """
    path = run / "recipe.json"
    if not path.is_file():
        raise UserError(f"{run}: no run there (recipe.json is missing)")
    recipe = from_mapping(Recipe, read_mapping(path), str(path))
    checkpoints = CheckpointFolder(run / "checkpoints")
    if not checkpoints.steps():
        raise UserError(f"{run}: no whole checkpoint yet")
    check_replaceable(target, "a model", origin_of(recipe), keep=True)
    step = checkpoints.newest()
    system = make_system(recipe)
    model = first_network(recipe, system)
    checkpoints.frozen = frozen_digest(model)
    checkpoints.put_averaged(step, model)
    if half:
        cast(model, torch.float16)
    return save_model(system, model, target, recipe, packed, Vocabulary.load(run))


def save_model(
    system: System, model: nn.Module, target: Path, recipe: Recipe, packed: bool = False,
    vocabulary: Vocabulary | None = None,
) -> Path:  # fmt: skip
    """Write a system's model folder whole: beside, then renamed; what a user put there, such as a card, stays."""
    with whole_folder(target, "a model", origin_of(recipe), keep=True) as unfinished:
        system.save(model, unfinished, recipe.sampling)
        for path in unfinished.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes for the owner alone
            if packed:
                pack_file(path)
        if vocabulary is not None:
            vocabulary.save(unfinished)
    return target


def origin_of(recipe: Recipe) -> str:
    """What a run's model is made from: the recipe's name, and a hash of all in it that a run may not change."""
    lasting = {key: lasting_part(key, value) for key, value in recipe.as_dict().items()}
    if not recipe.distillation:  # as before there was such a section: folders of then are known by this
        del lasting["distillation"]
    return f"{recipe.name} {hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]}"
