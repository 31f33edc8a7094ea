"""Low-rank adapters of linear layers (2106.09685), to train; trained ones are merged by models.lora."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """A linear layer with an adapter: W x + B A x, B zero at the start. `add_adapters` makes one of a layer in its place."""

    lora_A: nn.Linear
    lora_B: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lora_B(self.lora_A(x))


def add_adapters(network: nn.Module, rank: int, choose: Callable[[str], bool]) -> list[str]:
    """Give every linear layer that `choose` takes by its name an adapter, and freeze all else; returns their names."""
    network.requires_grad_(False)
    chosen = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear) and choose(n)]
    for _, layer in chosen:
        layer.__class__ = LowRankLinear
        layer.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        layer.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.normal_(layer.lora_A.weight, std=1 / rank)
        nn.init.zeros_(layer.lora_B.weight)
    return [name for name, _ in chosen]


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name
