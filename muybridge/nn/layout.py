"""Memory layout of weights."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(model: nn.Module, only_trainable: bool = False) -> None:
    """Lay out 2D convolutions channels-last, which is faster on CPUs. 3D ones have five axes and stay.

    Args:
        only_trainable: leave frozen ones alone: torch 2.13's backward pass through a frozen channels-last one crashes.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and (module.weight.requires_grad or not only_trainable):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
