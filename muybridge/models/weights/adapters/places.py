"""Where the layers of an adapter file belong in a network: diffusers' names or CompVis', with dots or underscores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from muybridge.models.inflated_unet import InflatedUNet

#: diffusers' names within a residual block -> CompVis' (spec 14, 7.1).
IN_RESNETS = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
#: The layers outside the blocks.
OUTSIDE = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
IN_BLOCK = re.compile(r"(?P<block>.+\.resnets\.\d+)\.(?P<rest>.+)")
#: How CLIP's attention was called in the files of 2023.
OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def flat(name: str) -> str:
    """A layer's name with underscores alone, as kohya writes it; attention processors are none."""
    return name.replace(".processor.", ".").replace(".", "_")


def network_places(network: nn.Module) -> dict[str, str]:
    """Flat name of a layer, in any of the files' words -> its name in the network.

    Layers of an inflated network's picture part are called as in the picture network, those of time by their full name.
    """
    if isinstance(network, InflatedUNet):
        inner = {alias: f"image.{name}" for alias, name in network_places(network.image).items()}
        return _own(network) | _motion_places(network) | _beside_time(network.image) | inner
    out = _own(network)
    for name, compvis in compvis_blocks(network):
        for module in list(out.values()):
            if module == name or module.startswith(f"{name}."):
                rest = module.removeprefix(name).removeprefix(".")
                rest = IN_RESNETS.get(rest, rest) if ".resnets." in name else rest
                out.setdefault(flat(f"{compvis}.{rest}".rstrip(".")), module)
    # the output of attention is a list of a layer and dropout; older files leave its number out
    return {alias.removesuffix("_0"): n for alias, n in out.items() if alias.endswith("_to_out_0")} | out


def _beside_time(image: nn.Module) -> dict[str, str]:
    """Residual blocks of the picture part, as Stable Video's U-Net has them beside those of time."""
    found = [(n, IN_BLOCK.fullmatch(n)) for n in _weighted(image)]
    return {flat(f"{m['block']}.spatial_res_block.{m['rest']}"): f"image.{n}" for n, m in found if m}


def _motion_places(network: InflatedUNet) -> dict[str, str]:
    """The same of AnimateDiff's motion modules: their names in diffusers, and in the original files."""
    out: dict[str, str] = {}
    for own, theirs in network.temporal.named_in_files():
        for name in _weighted(network.temporal):
            if not name.startswith(f"{own}."):
                continue
            rest = name.removeprefix(f"{own}.")
            old = rest.replace("attn1.", "attention_blocks.0.").replace("attn2.", "attention_blocks.1.")
            for alias in (f"{theirs}.{rest}", f"{theirs}.temporal_transformer.{old}"):
                out[flat(alias)] = out[flat(alias.removesuffix(".0"))] = f"temporal.{name}"
    return out


def text_places(encoder: nn.Module) -> dict[str, str]:
    """The same of a CLIP text encoder; `text_model.` may stand before a name or not."""
    out: dict[str, str] = {}
    for name in _weighted(encoder):
        plain = name.removeprefix("text_model.")
        names = [plain]
        head, _, last = plain.rpartition(".")
        if head.endswith("self_attn") and last in OLD_ATTENTION:
            names.append(f"{head}.{OLD_ATTENTION[last]}")
        for alias in names:
            out[flat(alias)] = out[flat(f"text_model.{alias}")] = name
    return out


def _own(network: nn.Module) -> dict[str, str]:
    return {flat(name): name for name in _weighted(network)}


def _weighted(network: nn.Module) -> list[str]:
    return [n for n, m in network.named_modules() if n and isinstance(getattr(m, "weight", None), Tensor)]


def compvis_blocks(network: Any) -> Iterator[tuple[str, str]]:
    """(diffusers' name of a block, CompVis' name) of a picture U-Net; nothing for other networks."""
    if not all(hasattr(network, part) for part in ("down_blocks", "mid_block", "up_blocks", "conv_in")):
        return
    yield from OUTSIDE.items()
    count = 1
    for i, block in enumerate(network.down_blocks):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{count}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{count}.1"
            count += 1
        if getattr(block, "downsamplers", None):
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{count}.0.op"
            count += 1
    if network.mid_block is not None:
        yield "mid_block.resnets.0", "middle_block.0"
        yield "mid_block.attentions.0", "middle_block.1"
        yield "mid_block.resnets.1", "middle_block.2"
    count = 0
    for i, block in enumerate(network.up_blocks):
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{count + j}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{count + j}.1"
        count += len(block.resnets)
        if getattr(block, "upsamplers", None):
            at = 2 if getattr(block, "attentions", None) else 1
            yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{count - 1}.{at}.conv"
