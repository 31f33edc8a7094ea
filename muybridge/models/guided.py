"""Networks told a guidance scale, as distilled ones and published LCM folders are: one call in place of two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.reconfigured import reconfigured
from muybridge.nn.embeddings import GUIDANCE_CHANNELS

#: The projections of the scale: of our own networks, and of diffusers' picture U-Nets.
PROJECTIONS = ("guidance.proj.weight", "time_embedding.cond_proj.weight")


def are_guided(names: Iterable[str]) -> bool:
    """Whether weights of these names are those of a network that is told a guidance scale."""
    return any(name.removeprefix("image.") in PROJECTIONS for name in names)


def takes_guidance(network: Any) -> bool:
    """Whether a network is told the guidance scale, by its config; False for what has none."""
    config = getattr(getattr(network, "image", network), "config", None) or {}
    return bool(config.get("guidance_embedding") or config.get("time_cond_proj_dim"))


def with_guidance(network: nn.Module) -> nn.Module:
    """The same network, told a guidance scale as well: its weights copied, the scale's projection zero, so that the
    output is the same whatever scale it is told (2210.03142)."""
    if isinstance(network, InflatedUNet):
        picture = with_guidance(network.image)
        assert isinstance(picture, UNet2DConditionModel)
        made: Any = InflatedUNet.from_image_model(picture, network.config.temporal_config, copied=False)
        made.temporal.load_state_dict(network.temporal.state_dict())
        return made
    is_picture = isinstance(network, UNet2DConditionModel)
    told = {"time_cond_proj_dim": GUIDANCE_CHANNELS} if is_picture else {"guidance_embedding": True}
    made = reconfigured(network, **told)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name in PROJECTIONS:
                parameter.zero_()
    return made
