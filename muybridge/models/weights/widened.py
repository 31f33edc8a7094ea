"""A picture network with further input channels."""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from torch import nn


@torch.no_grad()
def widen_inputs(picture: UNet2DConditionModel, more: int) -> None:
    """Give a picture U-Net further input channels, in place; their weights are zero, so its output is as before."""
    old = picture.conv_in
    made = nn.Conv2d(old.in_channels + more, old.out_channels, old.kernel_size, padding=old.padding)
    made = made.to(old.weight.device, old.weight.dtype)
    made.weight.zero_()
    made.weight[:, : old.in_channels] = old.weight
    assert made.bias is not None and old.bias is not None
    made.bias.copy_(old.bias)
    picture.conv_in = made.requires_grad_(old.weight.requires_grad)
    picture.register_to_config(in_channels=made.in_channels)


def with_more_inputs(picture: UNet2DConditionModel, more: int) -> UNet2DConditionModel:
    """A copy of a picture U-Net with further input channels whose weights are zero: its output is as before."""
    made = copy.deepcopy(picture)
    widen_inputs(made, more)
    return made
