"""The index files of a model folder, read and written in one place: model_index.json (diffusers') and muybridge.json
(ours)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping, write_json

INDEX, SETTINGS, CONFIG = "model_index.json", "muybridge.json", "config.json"
#: How a model is sampled by default, over what SETTINGS says: it may change while the model stays the same, since every
#: video's record keeps its own settings.
SAMPLING = "sampling.json"
#: A network's place in an index: the module and the class it is opened with.
INFLATED_UNET = ["muybridge.models.inflated_unet", "InflatedUNet"]
PICTURE_UNET = ["diffusers", "UNet2DConditionModel"]


def index_of(folder: Path) -> dict[str, Any]:
    """What a model folder's model_index.json says.

    Raises:
        UserError: it is missing or unreadable.
    """
    return read_mapping(folder / INDEX)


def settings_of(folder: Path) -> dict[str, Any]:
    """What our pipelines need beside diffusers' files, with the model's sampling.json where it has one; empty where
    nothing is kept.

    Raises:
        UserError: unreadable, or `sampling` in it is no mapping.
    """
    found = read_mapping(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    if not isinstance(found.get("sampling", {}), dict):
        raise UserError(f"{folder / SETTINGS}: sampling must be keys and values, got {found['sampling']!r}")
    changed = changed_sampling(folder)
    return {**found, "sampling": {**found.get("sampling", {}), **changed}} if changed else found


def changed_sampling(folder: Path) -> dict[str, Any]:
    """What a model's sampling.json says; empty where it has none."""
    return read_mapping(folder / SAMPLING) if (folder / SAMPLING).is_file() else {}


def write_index(folder: Path, class_name: str, **parts: list[Any]) -> None:
    """model_index.json: the pipeline's class, and [module, class] of each part."""
    write_json(folder / INDEX, {"_class_name": class_name, **parts})


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """muybridge.json; values that were read back are the ones that were written."""
    write_json(folder / SETTINGS, dict(settings))
