"""Finding and opening saved models: bundled ones by name, others by folder. Safetensors only."""

from __future__ import annotations

import hashlib
import importlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.errors import UserError, nearest
from muybridge.models import NETWORKS
from muybridge.systems.pipeline import TextToVideoPipeline

if TYPE_CHECKING:
    from torch import nn

DEFAULT_MODEL = "world-vdm"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def zoo_folder() -> Path:
    return Path(str(files("muybridge") / "zoo"))


def bundled_models() -> dict[str, Path]:
    """Names and folders of the models inside the package."""
    return {p.parent.name: p.parent for p in sorted(zoo_folder().glob("*/model_index.json"))}


def find_model(name: str) -> Path:
    """The folder of a bundled model's name or of a path.

    Raises:
        UserError: neither a bundled model nor a model folder.
    """
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    folder = Path(name).expanduser()
    if (folder / "model_index.json").is_file():
        return folder
    if folder.is_dir():
        raise UserError(
            f"{name}: a folder without model_index.json; expected a saved pipeline, such as runs/NAME/model"
        )
    raise UserError(f"unknown model {name!r}; {nearest(name, bundled)}; or give the folder of a saved pipeline")


def load_pipeline(name: str = DEFAULT_MODEL, device: str = "cpu") -> TextToVideoPipeline:
    """Open a model for sampling, float32, on a device.

    Args:
        name: a bundled model, or a folder that `save_pretrained` or `muybridge train` wrote.

    Raises:
        UserError: unknown, incomplete, damaged, or pickled weights.
    """
    import torch

    folder = find_model(name)
    _check_weights(folder)
    try:
        pipeline = TextToVideoPipeline.from_pretrained(str(folder), torch_dtype=torch.float32, local_files_only=True)
    except UserError:
        raise
    except Exception as error:  # diffusers and safetensors raise many kinds for damaged files
        raise UserError(f"{folder}: the model cannot be opened: {error}") from error
    left = [n for n, p in pipeline.network.named_parameters() if p.is_meta]
    if left:
        raise UserError(f"{folder}: {len(left)} tensors are missing from its weights, the first is {left[0]}")
    pipeline.network.requires_grad_(False).eval()
    pipeline.network.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_network_weights(network: nn.Module, name: str) -> None:
    """Copy a saved model's weights into a network of the same shape.

    Raises:
        UserError: an unknown model, or weights that do not fit.
    """
    from safetensors.torch import load_file

    folder = find_model(name)
    _check_weights(folder)
    try:
        network.load_state_dict(load_file(folder / "network" / WEIGHTS))
    except RuntimeError as error:
        raise UserError(f"{name}: its weights do not fit this recipe's network: {str(error)[:500]}") from error


def model_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over a model's weights and configs; written into every video."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{folder}/model_index.json cannot be read: {error}") from error
    for name, entry in _components(index).items():
        if tuple(entry) not in NETWORKS.values():
            raise UserError(f"{folder}: component {name} is a {entry[0]}.{entry[1]}; expected a network of muybridge")
        importlib.import_module(entry[0])  # one of our own: diffusers opens only modules that are already imported
        weights = folder / name / WEIGHTS
        if not weights.is_file():
            pickled = [
                p.name for p in (folder / name).glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
            ]
            if pickled:
                raise UserError(
                    f"{folder / name}: holds pickled weights ({pickled[0]}), which can run code when opened and are refused; "
                    "convert them to safetensors first"
                )
            raise UserError(f"{folder / name}: {WEIGHTS} is missing")
        try:
            with safe_open(weights, "pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(f"{weights}: damaged or cut short ({error}); copy it again") from error


def _components(index: dict[str, Any]) -> dict[str, list[Any]]:
    return {k: v for k, v in index.items() if not k.startswith("_") and isinstance(v, list) and len(v) == 2}
