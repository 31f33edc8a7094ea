"""Low-rank adapters of linear layers (2106.09685) and of convolutions, to train; trained ones are merged by
models.weights.lora."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """A linear layer with an adapter: W x + B A x, B zero at the start. `add_adapters` makes one of a layer in its
    place."""

    lora_A: nn.Linear
    lora_B: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lora_B(self.lora_A(x))


class LowRankConv2d(nn.Conv2d):
    """The same of a convolution: A is one of its kernel, stride and padding, B of 1 x 1."""

    lora_A: nn.Conv2d
    lora_B: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lora_B(self.lora_A(x))


def add_adapters(network: nn.Module, rank: int, choose: Callable[[str], bool]) -> list[str]:
    """Give every linear layer and 2D convolution that `choose` takes by its name an adapter, freeze all else; returns
    their names."""
    network.requires_grad_(False)
    chosen = [(n, m) for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and choose(n)]
    for _, layer in chosen:
        if isinstance(layer, nn.Linear):
            layer.__class__ = LowRankLinear
            layer.lora_A = nn.Linear(layer.in_features, rank, bias=False)
            layer.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        else:
            layer.__class__ = LowRankConv2d
            same: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding")}
            layer.lora_A = nn.Conv2d(layer.in_channels, rank, **same, bias=False)
            layer.lora_B = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(layer.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(layer.lora_B.weight)
    return [name for name, _ in chosen]


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name
