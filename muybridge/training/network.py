"""The network of a run before its first step, and what of it trains."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from muybridge.diffusion.noise import derive_seed
from muybridge.learning.contract import System
from muybridge.library.parts import load_network_weights
from muybridge.training.recipe import Recipe


def first_network(recipe: Recipe, system: System) -> nn.Module:
    """From the recipe's seed and from the model that it starts from, what trains marked (`requires_grad`)."""
    torch.manual_seed(derive_seed(recipe.seed, "init"))
    model = system.build()
    if recipe.training.start_from:
        load_network_weights(model, recipe.training.start_from)
    trainable = {name for name, _ in system.trainable(model)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
    return model


def frozen_digest(model: nn.Module) -> str:
    """SHA-256 over names and values of what does not train; "" where everything does."""
    frozen = [(n, p) for n, p in model.named_parameters() if not p.requires_grad]
    digest = hashlib.sha256()
    for name, parameter in frozen:
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if frozen else ""


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Total and trainable parameters."""
    sizes: list[tuple[int, bool]] = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"total": sum(n for n, _ in sizes), "trainable": sum(n for n, t in sizes if t)}
