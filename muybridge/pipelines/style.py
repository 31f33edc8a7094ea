"""Another style for a video model: its picture network's weights drawn towards a tuned one's, its temporal layers kept.

    W = a W_style + (1 - a) W_own

Source: 2401.12945 section 4.2; the interpolation is 2010.05334's. The paper picks a in 0.5..1 by hand for each style:
at 1 the temporal layers see activations that they were not trained on, and videos stand still or are distorted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.errors import UserError
from muybridge.library.catalogue import find_lora, find_model, split_lora
from muybridge.library.parts import load_picture_unet
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.nn.resting import wake
from muybridge.pipelines.inflated import check_alike


@torch.no_grad()
def interpolate_weights(network: nn.Module, style: nn.Module, weight: float) -> None:
    """Draw every floating tensor of a network towards that of the same name, biases and norms too, in place.

    Input channels that only the network has (known frames) stay. At weight 0 and 1 the result is the one or the other
    to the last bit.

    Raises:
        UserError: networks of other layers.
    """
    wake(network)
    own, other = network.state_dict(), style.state_dict()
    if own.keys() != other.keys():
        name = next(iter(own.keys() ^ other.keys()))
        raise UserError(
            f"the style's picture network has other layers than the model's: {name} is in one of them alone"
        )
    for name, tensor in own.items():
        value = other[name].to(tensor)
        if not tensor.is_floating_point():
            continue
        target = tensor[:, : value.shape[1]] if name == "conv_in.weight" else tensor
        if target.shape != value.shape:
            raise UserError(f"the style's {name} is {tuple(value.shape)}, the model's {tuple(tensor.shape)}")
        target.lerp_(value, weight)


def parse_style(text: str) -> tuple[Path, bool, float]:
    """FOLDER_OR_LORA:WEIGHT -> (where it lies, whether it is a LoRA's file, weight).

    Raises:
        UserError: nothing there, or a weight beyond 0..1.
    """
    name, weight = split_lora(text)
    if not 0 <= weight <= 1:
        raise UserError(f"--style {text}: its weight must be in 0..1, got {weight:g}")
    try:
        return find_model(name), False, weight
    except UserError as error:
        try:
            return find_lora(name), True, weight
        except UserError:
            raise UserError(f"--style {text}: neither a picture model's folder nor a LoRA: {error}") from error


def style_network(pipeline: Any, text: str) -> None:
    """Give an opened pipeline's picture network a style: FOLDER_OR_LORA:WEIGHT. Its words stay as they are read.

    A LoRA says W_style - W_own, so that its weight is the scale it is merged at.

    Raises:
        UserError: no such style, or one of another picture model.
    """
    where, is_lora, weight = parse_style(text)
    network = pipeline.network
    if not isinstance(network, InflatedUNet):
        raise UserError("--style: this model has no picture network of its own whose weights could be drawn to a style")
    if is_lora:
        from muybridge.models.weights.lora import apply_lora

        apply_lora(network, where, weight, None)
        return
    own = {name: pipeline.config[name] for name in ("text_encoder", "scheduler")}
    check_alike(own, str(where))
    style: UNet2DConditionModel = load_picture_unet(str(where))
    interpolate_weights(network.image, style, weight)
