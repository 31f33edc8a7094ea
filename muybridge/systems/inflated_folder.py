"""The folder of an inflated model: its temporal layers and what changed of the picture model, which is named, not copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.packaged import WEIGHTS
from muybridge.systems.latent_diffusion import write_settings


def save_inflated(model: InflatedUNet, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write temporal/ (the plug-in's settings and weights), image/ (picture weights that train, if any), and settings."""
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
    text = json.dumps(dict(model.config.temporal_config), indent=1)
    (folder / "temporal" / "config.json").write_text(text + "\n", encoding="utf-8")
    write_settings(folder, settings)
    index = {"_class_name": "InflatedPipeline", "temporal": ["muybridge.models.inflated_unet", "InflatedUNet"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
