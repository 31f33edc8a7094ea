"""Control pictures for a picture network: ControlNets whose residuals are added up, frame by frame.

Source: 2302.05543; several at once as in diffusers' MultiControlNetModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from muybridge.errors import UserError
from muybridge.models.weights.opening import open_network
from muybridge.nn.layout import suit_cpu


@dataclass
class Control:
    """One ControlNet and what it is shown.

    Attributes:
        network: a ControlNetModel.
        pictures: [F, 3, H, W] in [0, 1], one a frame of the video.
        scale: of its residuals; 0 switches it off.
    """

    network: ControlNetModel
    pictures: Tensor
    scale: float = 1.0


Residuals = tuple[tuple[Tensor, ...], Tensor]


def residuals_of(
    controls: Sequence[Control],
    z: Tensor,
    index: Tensor,
    tokens: Tensor,
    frames: Tensor | None = None,
    **more: Any,
) -> Residuals | None:
    """What the ControlNets add to the U-Net's skips and middle block; None without any.

    Args:
        z: noisy frames [B F, C, h, w]; index [B F]; tokens [B F, L, D].
        frames: which frames of the video these are, [F]; None for all in order.
        more: what the network is told beside words (`added_cond_kwargs` of Stable Diffusion XL).
    """
    total: Residuals | None = None
    for control in controls:
        if control.scale == 0:
            continue
        pictures = control.pictures if frames is None else control.pictures[frames]
        shown = pictures.to(z).repeat(len(z) // len(pictures), 1, 1, 1)
        how = {"conditioning_scale": control.scale, "return_dict": False, **more}
        down, middle = control.network(z, index, tokens, shown, **how)
        if total is None:
            total = (tuple(down), middle)
        else:
            total = (tuple(a + b for a, b in zip(total[0], down, strict=True)), total[1] + middle)
    return total


def open_control_net(folder: Path, dtype: torch.dtype = torch.float32) -> ControlNetModel:
    """Load a ControlNet's folder (config.json and safetensors), for sampling.

    Raises:
        UserError: incomplete, damaged, or another kind of network.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"ControlNet {folder}: expected a folder with config.json and safetensors weights")
    try:
        opened = open_network(ControlNetModel, folder, dtype).requires_grad_(False)
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        raise UserError(f"ControlNet {folder}: it cannot be opened: {str(error)[:500]}") from error
    suit_cpu(opened)
    return opened
