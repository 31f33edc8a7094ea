"""A network made again with other settings, keeping its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def reconfigured(network: nn.Module, **told: Any) -> Any:
    """The same network with `told` in place of its config's settings: its weights copied, those of layers that it did
    not have drawn; in its own precision.

    Args:
        network: with a diffusers config, as our own networks have it too.
    """
    cls, config = type(network), network.config
    # `_use_default_values` among the private keys would undo what is told
    made = cls.from_config({k: v for k, v in config.items() if not k.startswith("_")} | told)  # type: ignore
    dtype = next(network.parameters()).dtype
    if dtype != torch.float32:
        made.to(dtype)
    made.load_state_dict(network.state_dict(), strict=False)
    return made
