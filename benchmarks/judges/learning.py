"""Fitting small networks on one core, the same for one seed, and keeping them as safetensors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muybridge.files import cache_folder, whole_file

#: What the judges see and how they are fitted; another number makes every kept judge another one.
VERSION = 2


def cheap() -> torch.autocast:
    """bfloat16 where the processor has it, which halves the time; else float32."""
    has = torch.ops.mkldnn._is_mkldnn_bf16_supported() if torch.backends.mkldnn.is_available() else False
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(has))


def block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Convolution 3x3, norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two convolutions 3x3, added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(
            block(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


def fit(
    network: nn.Module,
    loss_of: Callable[[int], Tensor],
    steps: int,
    rate: float = 2e-3,
    decay: float = 0.02,
    tell: str = "",
) -> None:
    """Train with AdamW and a cosine that ends at 0; leaves the network in eval mode, frozen.

    Args:
        loss_of: step -> the loss of that step's batch, which it draws itself.
        tell: a name under which the loss is printed ten times; "" prints nothing.
    """
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.98), weight_decay=decay)
    warm, mean = max(1, steps // 20), 0.0
    for step in range(steps):
        share = min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        with cheap():
            loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
        if tell and (step + 1) % max(1, steps // 10) == 0:
            print(f"  {tell}: step {step + 1} of {steps}, loss {mean:.4f}", flush=True)
    network.eval().requires_grad_(False)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with initial weights of a seed; global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def kept(name: str, network: nn.Module, settings: dict[str, Any], make: Callable[[], None]) -> nn.Module:
    """The network as the cache folder keeps it under these settings; where it does not, `make` fits it first.

    Args:
        settings: everything that the fit depends on.
    """
    text = json.dumps([VERSION, settings], sort_keys=True)
    path = cache_folder() / "judges" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        network.load_state_dict(load_file(path))
    else:
        make()
        with whole_file(path) as unfinished:
            # a network may have been fitted with channels last, which the format cannot keep
            save_file(
                {k: v.contiguous() for k, v in network.state_dict().items()}, unfinished, metadata={"settings": text}
            )
    return network.eval().requires_grad_(False)
