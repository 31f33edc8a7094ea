"""A picture network with further input channels."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel


@torch.no_grad()
def with_more_inputs(picture: UNet2DConditionModel, more: int) -> UNet2DConditionModel:
    """A picture U-Net with further input channels whose weights are zero: its output is as before."""
    old = picture.conv_in
    made = UNet2DConditionModel.from_config({**picture.config, "in_channels": old.in_channels + more})
    weights = picture.state_dict()
    wider = torch.zeros(old.out_channels, old.in_channels + more, *old.kernel_size)
    wider[:, : old.in_channels] = weights["conv_in.weight"]
    made.load_state_dict({**weights, "conv_in.weight": wider})
    return made
