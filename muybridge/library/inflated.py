"""The folder of an inflated model: its temporal layers and what changed of the picture model, which is named, not
copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from muybridge.errors import UserError
from muybridge.files import read_mapping, write_json
from muybridge.library.catalogue import find_part
from muybridge.library.index import (
    CONFIG,
    INFLATED_UNET,
    PICTURE_UNET,
    index_of,
    settings_of,
    write_index,
    write_settings,
)
from muybridge.models.guided import are_guided, with_guidance
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.compact import read_weights
from muybridge.models.weights.lora import merge_recorded
from muybridge.models.weights.opening import open_network
from muybridge.models.weights.packaged import WEIGHTS


def open_unet(folder: Path, dtype: torch.dtype = torch.float32) -> InflatedUNet | UNet2DConditionModel:
    """The network of a model folder: network/ whole, an inflated or a picture network, as its index says; or what
    `save_inflated` wrote, behind the picture model that the folder names.

    Raises:
        UserError: tensors missing, left over, of another shape, or a damaged file.
    """
    index, image = index_of(folder), settings_of(folder).get("image")
    if "network" not in index and image:
        behind = open_behind(folder, str(image))
        nn.Module.to(behind, dtype)  # as in InflatedUNet.to_image_model
        return behind.eval().requires_grad_(False)
    kind: Any = UNet2DConditionModel if index.get("network") == PICTURE_UNET else InflatedUNet
    made: InflatedUNet | UNet2DConditionModel = open_network(kind, folder / "network", dtype)
    return made


def open_behind(
    folder: Path, image: str, lora: Sequence[Mapping[str, Any]] = ()
) -> InflatedUNet | UNet2DConditionModel:
    """The picture network of `image` with what a folder changes of it, and the folder's temporal layers behind it, if
    it has any; float32.

    Args:
        lora: merged into the picture network before.

    Raises:
        UserError: picture weights that do not fit.
    """
    picture = open_network(UNet2DConditionModel, find_part(f"{image}/unet"))
    merge_recorded(picture, lora)
    changed = read_weights(folder / "image" / WEIGHTS) if (folder / "image" / WEIGHTS).is_file() else {}
    if are_guided(changed):
        picture = with_guidance(picture)
    made: InflatedUNet | UNet2DConditionModel = picture
    if (folder / "temporal" / WEIGHTS).is_file():
        temporal = read_mapping(folder / "temporal" / CONFIG)
        made = network = InflatedUNet.from_image_model(picture, temporal, copied=False)
        weights = {k: v.float() for k, v in read_weights(folder / "temporal" / WEIGHTS).items()}
        network.temporal.load_state_dict(weights, assign=True)
        picture = network.image
    unknown = picture.load_state_dict(changed, strict=False).unexpected_keys
    if unknown:
        raise UserError(f"{folder}: its picture weights do not fit {image}: {unknown[0]}")
    return made


def save_unet(model: InflatedUNet | UNet2DConditionModel, folder: Path, class_name: str) -> None:
    """Write network/ and the index of a folder that `class_name` opens."""
    model.save_pretrained(str(folder / "network"))
    write_index(folder, class_name, network=INFLATED_UNET if isinstance(model, InflatedUNet) else PICTURE_UNET)


def save_inflated(
    model: InflatedUNet | UNet2DConditionModel,
    folder: Path,
    settings: Mapping[str, Any],
    class_name: str = "InflatedPipeline",
    changed: Callable[[str], bool] | None = None,
) -> None:
    """Write temporal/ (the plug-in's settings and weights, if there is one), image/ (picture weights that are not those
    of the picture model that `settings` name, if any), and settings; `class_name` is of the pipeline that opens it.

    Args:
        changed: whether a picture weight of this name is kept; by default, whether it trains.
    """
    inflated = isinstance(model, InflatedUNet)
    picture = model.image if inflated else model
    kept = changed or (lambda name: model.temporal.trainable(f"image.{name}"))
    weights = {
        "temporal": model.temporal.state_dict() if inflated else {},
        "image": {n: p.detach() for n, p in picture.named_parameters() if kept(n)},
    }
    parts = {"temporal": INFLATED_UNET, "image": PICTURE_UNET}
    for part, tensors in weights.items():
        if tensors:
            (folder / part).mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in tensors.items()}, folder / part / WEIGHTS)
    if inflated:
        write_json(folder / "temporal" / CONFIG, dict(model.config.temporal_config))
    write_settings(folder, settings)
    # what the index names is missed where it is gone
    write_index(folder, class_name, **{part: parts[part] for part, tensors in weights.items() if tensors})
