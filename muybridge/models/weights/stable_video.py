"""Stable Video Diffusion's U-Net, as diffusers keeps it, in our layout: a picture U-Net and a plug-in (spec 14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.found import weight_files
from muybridge.models.weights.opening import check_computed, put, stream_weights
from muybridge.nn.resting import are_to_rest

#: The three scalars of its conditioning, in the order of `added_time_ids`.
SCALARS = ("fps", "motion_bucket", "noise_augmentation")
#: diffusers builds the residual blocks of the way up and beside down-going attention with this epsilon, the others with
#: 1e-5.
OUTER_EPS = 1e-6


def configs_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(image_config, temporal_config) of a UNetSpatioTemporalConditionModel's config."""
    count = len(config["block_out_channels"])
    widths = int(config["projection_class_embeddings_input_dim"])
    per_scalar = int(config["addition_time_embed_dim"])
    if widths != len(SCALARS) * per_scalar:
        raise UserError(f"a Stable Video model is told {len(SCALARS)} scalars, this one {widths // per_scalar}")
    image = {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "sample_size": config.get("sample_size"),
        "block_out_channels": tuple(config["block_out_channels"]),
        "down_block_types": tuple(t.replace("SpatioTemporal", "2D") for t in config["down_block_types"]),
        "up_block_types": tuple(t.replace("SpatioTemporal", "2D") for t in config["up_block_types"]),
        "layers_per_block": config["layers_per_block"],
        "transformer_layers_per_block": config.get("transformer_layers_per_block", 1),
        "cross_attention_dim": config["cross_attention_dim"],
        "attention_head_dim": config.get("num_attention_heads") or (8,) * count,
        "use_linear_projection": True,
    }
    temporal = {
        "type": "video_ldm",
        "train_image": True,
        "zero": False,
        "scalars": list(SCALARS),
        "scalars_everywhere": True,
        "scalar_channels": per_scalar,
        "outer_eps": OUTER_EPS,
    }
    return image, temporal


def rename(name: str, depth: Mapping[str, int]) -> list[str]:
    """Where a tensor of diffusers' goes: usually one place, a transformer's shared ones to each of its blocks.

    Args:
        depth: transformer path -> number of its blocks.

    Returns:
        An empty list for a tensor of a block that the network has not.
    """
    if name.startswith("add_embedding."):
        return [f"temporal.scalars.{name}"]
    found = re.match(r"(.+\.resnets\.\d+)\.(spatial_res_block|temporal_res_block|time_mixer)\.(.+)", name)
    if found:
        path, part, rest = found.groups()
        key = path.replace(".", "_")
        if part == "spatial_res_block":
            return [f"image.{path}.{rest}"]
        return [
            f"temporal.convolutions.{key}.{rest}" if part == "temporal_res_block" else f"temporal.mixes.{key}.{rest}"
        ]
    found = re.match(
        r"(.+\.attentions\.\d+)\.(temporal_transformer_blocks\.(\d+)|time_pos_embed|time_mixer)\.(.+)", name
    )
    if found:
        path, part, block, rest = found.groups()
        keys = [f"{path}.transformer_blocks.{d}".replace(".", "_") for d in range(depth.get(path, 0))]
        if block is not None:
            return [f"temporal.attentions.{key}.{rest}" for key in keys[int(block) : int(block) + 1]]
        if part == "time_mixer":
            return [f"temporal.mixes.{key}.{rest}" for key in keys]
        return [f"temporal.attentions.{key}.time_pos_embed.{rest}" for key in keys]
    return [f"image.{name}"]


def depths_of(image: nn.Module) -> dict[str, int]:
    """Transformer path -> number of its blocks, of a picture network."""
    found: dict[str, Any] = {p: getattr(m, "transformer_blocks", None) for p, m in image.named_modules()}
    return {path: len(blocks) for path, blocks in found.items() if blocks is not None}


def inflated_from(
    config: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype = torch.float32
) -> InflatedUNet:
    """Our network with diffusers' weights, which are asked for one after another.

    Raises:
        UserError: a tensor is missing, left over, or of another shape.
    """
    image, temporal = configs_of(config)
    with torch.device("meta"):
        model = InflatedUNet(image, temporal)
    depth = depths_of(model.image)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    spare, first, rest = [], next(iter(wanted)), are_to_rest((shape.numel() for shape in wanted.values()), dtype)
    for name, value in weights:
        places = rename(name, depth)
        if not places or any(wanted.get(place) != value.shape for place in places):
            spare.append(name)
            continue
        for place in places:
            waits = rest and place != first
            put(model, place, value if place == places[-1] else value.clone(), dtype, waits)
            del wanted[place]
    if wanted or spare:
        raise UserError(
            f"these are not a Stable Video U-Net's weights: {len(wanted)} tensors are missing, {len(spare)} left over "
            f"or of another shape, such as {[*wanted, *spare][0]}"
        )
    check_computed(model, ())
    return model.requires_grad_().eval()


def load_stable_video_unet(folder: Path, dtype: torch.dtype = torch.float32) -> InflatedUNet:
    """Read the `unet` folder of a Stable Video Diffusion model (config.json, one or several safetensors), with its
    weights in memory once."""
    pairs = (pair for file in weight_files(folder) for pair in stream_weights(file))
    return inflated_from(read_mapping(folder / "config.json"), pairs, dtype)
