"""The folder of an inflated model: its temporal layers and what changed of the picture model, which is named, not
copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from muybridge.files import write_json
from muybridge.library.index import CONFIG, INFLATED_UNET, PICTURE_UNET, index_of, write_index, write_settings
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.opening import open_network
from muybridge.models.weights.packaged import WEIGHTS


def open_unet(folder: Path, dtype: torch.dtype = torch.float32) -> InflatedUNet | UNet2DConditionModel:
    """The network/ of a model folder: an inflated network saved whole, or a picture network, as its index says."""
    kind: Any = UNet2DConditionModel if index_of(folder).get("network") == PICTURE_UNET else InflatedUNet
    made: InflatedUNet | UNet2DConditionModel = open_network(kind, folder / "network", dtype)
    return made


def save_unet(model: InflatedUNet | UNet2DConditionModel, folder: Path, class_name: str) -> None:
    """Write network/ and the index of a folder that `class_name` opens."""
    model.save_pretrained(str(folder / "network"))
    write_index(folder, class_name, network=INFLATED_UNET if isinstance(model, InflatedUNet) else PICTURE_UNET)


def save_inflated(
    model: InflatedUNet, folder: Path, settings: Mapping[str, Any], class_name: str = "InflatedPipeline"
) -> None:
    """Write temporal/ (the plug-in's settings and weights), image/ (picture weights that train, if any), and
    settings; `class_name` is of the pipeline that opens it."""
    weights = {"temporal": model.temporal.state_dict()}
    changed = {
        n.removeprefix("image."): p.detach()
        for n, p in model.named_parameters()
        if n.startswith("image.") and model.temporal.trainable(n)
    }
    if changed:
        weights["image"] = changed
    for part, tensors in weights.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / part / WEIGHTS)
    write_json(folder / "temporal" / CONFIG, dict(model.config.temporal_config))
    write_settings(folder, settings)
    write_index(folder, class_name, temporal=INFLATED_UNET)
