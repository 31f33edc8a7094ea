"""LoRAs for picture networks and inflated ones, of pictures and of time: read in the three formats in use, merged into
the weights (spec 14, 7.2)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from muybridge.errors import Notice, UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.packaged import sha256_of

#: (ending of the down matrix, ending of the up matrix) in each format.
PAIRS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)


def read_lora(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weight name of the network -> what is to be added to it at scale 1, (alpha / rank) B A.

    Text-encoder parts (`of_text`) are left out: the text encoder is not part of a model here.

    Raises:
        UserError: no LoRA, or one for another network.
    """
    modules = {name: m for name, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    flat = {f"lora_unet_{name.replace('.', '_')}": name for name in modules}
    out: dict[str, Tensor] = {}
    strange: list[str] = []
    for name, down in weights.items():
        pair = next((p for p in PAIRS if name.endswith(p[0])), None)
        if pair is None or of_text(name):
            continue
        stem = name.removesuffix(pair[0])
        place = flat.get(stem) or _plain(stem)
        up = weights.get(stem + pair[1])
        if place not in modules or up is None:
            strange.append(name)
            continue
        alpha = weights.get(f"{stem}.alpha")
        rank = down.shape[0]
        factor = 1.0 if alpha is None else float(alpha) / rank
        delta = factor * (up.float().flatten(1) @ down.float().flatten(1))
        target = modules[place].weight
        if delta.numel() != target.numel():
            raise UserError(
                f"this LoRA changes {place} by {tuple(delta.shape)}, the network's is {tuple(target.shape)}"
            )
        out[f"{place}.weight"] = delta.reshape(target.shape)
    if strange:
        raise UserError(
            f"this LoRA is for another network: {len(strange)} of its layers are not in this one, such as {strange[0]}"
        )
    if not out:
        raise UserError("no LoRA for such a network in this file")
    return out


def of_text(name: str) -> bool:
    """Whether a tensor of a LoRA belongs to a text encoder."""
    return name.startswith(("lora_te", "text_encoder"))


def _plain(stem: str) -> str:
    """diffusers' names, new (unet.a.to_q) and old (unet.a.processor.to_q)."""
    return stem.removeprefix("unet.").replace(".processor.", ".").replace(".to_out.lora", ".to_out.0")


@torch.no_grad()
def apply_lora(network: nn.Module, file: Path, scale: float = 1.0) -> dict[str, Any]:
    """Merge a LoRA file into a picture network, or into an inflated one: its picture part, or the layers over time that
    it names.

    Returns:
        What a recipe records of it.

    Raises:
        UserError: no such file, damaged, or for another network.
    """
    if not file.is_file():
        raise UserError(f"no LoRA file at {file}")
    try:
        weights = load_file(file)
    except Exception as error:  # safetensors raises its own kinds
        raise UserError(f"{file}: not a readable safetensors file: damaged or cut short ({error})") from error
    # a picture's LoRA names layers of the picture part, one of time those of the whole
    whole = not isinstance(network, InflatedUNet) or any(name.startswith("temporal.") for name in weights)
    target: nn.Module = network if whole else network.get_submodule("image")
    for name, delta in read_lora(weights, target).items():
        parameter = target.get_parameter(name)
        parameter.add_(scale * delta.to(parameter))
    left_out = sum(map(of_text, weights))
    if left_out:
        warnings.warn(
            f"{file}: its {left_out} tensors for a text encoder are left out; those of the network are merged",
            Notice, stacklevel=3,
        )  # fmt: skip
    entry = {"file": str(file.resolve()), "scale": scale, "sha256": sha256_of(file)}
    return {**entry, "left_out": left_out} if left_out else entry
