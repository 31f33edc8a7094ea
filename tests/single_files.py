"""Stable Diffusion folders as the single files that people have: the same weights in CompVis' names."""

import re
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from muybridge.models.weights.adapters.places import IN_RESNETS, compvis_blocks
from muybridge.models.weights.found import weight_files


def tensors_of(folder, name="diffusion_pytorch_model.safetensors"):
    return {k: v for file in weight_files(folder, name) for k, v in load_file(file).items()}


def unet_names(network, prefix, unet=None):
    """diffusers' name -> CompVis'; of a ControlNet by the U-Net that it stands beside."""
    out = {}
    blocks = sorted(compvis_blocks(unet or network), key=lambda pair: -len(pair[0]))
    for name in network.state_dict():
        for ours, theirs in blocks:
            if not name.startswith(f"{ours}."):
                continue
            rest = name.removeprefix(f"{ours}.")
            layer, _, leaf = rest.rpartition(".")
            if ".resnets." in ours:
                rest = f"{IN_RESNETS[layer]}.{leaf}"
            out[name] = f"{prefix}{theirs}.{rest}"
            break
        else:
            out[name] = name
    return out


def vae_name(name, levels):
    """CompVis' name of an autoencoder's tensor."""
    name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.conv", r"encoder.down.\1.downsample.conv", name)
    up = lambda m: f"decoder.up.{levels - 1 - int(m[1])}."  # noqa: E731
    name = re.sub(r"decoder\.up_blocks\.(\d+)\.", up, name).replace("upsamplers.0.conv", "upsample.conv")
    name = re.sub(r"(decoder\.up\.\d+)\.resnets\.", r"\1.block.", name)
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
    name = name.replace("conv_norm_out", "norm_out")
    for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return f"first_stage_model.{name}"


def open_clip(tensors, prefix, extra_layer):
    """An OpenCLIP text encoder's tensors, of transformers' ones; with one more layer at its end for 2.x."""
    plain = {k.removeprefix("text_model."): v for k, v in tensors.items()}
    out = {
        f"{prefix}token_embedding.weight": plain["embeddings.token_embedding.weight"],
        f"{prefix}positional_embedding": plain["embeddings.position_embedding.weight"],
        f"{prefix}ln_final.weight": plain["final_layer_norm.weight"],
        f"{prefix}ln_final.bias": plain["final_layer_norm.bias"],
    }
    if "text_projection.weight" in plain:
        out[f"{prefix}text_projection"] = plain["text_projection.weight"].T.contiguous()
    count = 1 + max(int(m[1]) for k in plain if (m := re.match(r"encoder\.layers\.(\d+)\.", k)))
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for i in range(count + extra_layer):
        ours, theirs = f"encoder.layers.{min(i, count - 1)}.", f"{prefix}transformer.resblocks.{i}."
        for leaf in ("weight", "bias"):
            stacked = [plain[f"{ours}self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            out[f"{theirs}attn.in_proj_{leaf}"] = torch.cat(stacked)
            out |= {f"{theirs}{new}.{leaf}": plain[f"{ours}{old}.{leaf}"].clone() for old, new in names.items()}
    return out


def single_file(folder: Path, file: Path, family: str) -> Path:
    """Write a folder of user_folders as one file; `family` is "1", "2" or "xl"."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    state = unet.state_dict()
    out = {new: state[old] for old, new in unet_names(unet, "model.diffusion_model.").items()}
    vae = tensors_of(folder / "vae")
    levels = 1 + max(int(m[1]) for k in vae if (m := re.match(r"encoder\.down_blocks\.(\d+)\.", k)))
    for name, value in vae.items():
        square = "attentions.0.to_" in name and name.endswith("weight")
        out[vae_name(name, levels)] = value[..., None, None] if square else value
    words = tensors_of(folder / "text_encoder", "model.safetensors")
    if family == "2":
        out |= open_clip(words, "cond_stage_model.model.", 1)
    else:
        prefix = "conditioner.embedders.0.transformer." if family == "xl" else "cond_stage_model.transformer."
        out |= {f"{prefix}text_model.{k.removeprefix('text_model.')}": v for k, v in words.items()}
    if family == "xl":
        two = tensors_of(folder / "text_encoder_2", "model.safetensors")
        out |= open_clip(two, "conditioner.embedders.1.model.", 0)
    save_file({k: v.contiguous() for k, v in out.items()}, file)
    return file


def control_file(net: ControlNetModel, unet: UNet2DConditionModel, file: Path) -> Path:
    """A ControlNet as its authors keep it."""
    state, names = net.state_dict(), unet_names(net, "control_model.", unet)
    hints = ["conv_in", *(f"blocks.{i}" for i in range(len(net.controlnet_cond_embedding.blocks))), "conv_out"]
    for name in state:
        plain = name.removeprefix("controlnet_cond_embedding.")
        if plain != name:
            layer, _, leaf = plain.rpartition(".")
            names[name] = f"control_model.input_hint_block.{2 * hints.index(layer)}.{leaf}"
        zeros = ("controlnet_down_blocks.", "zero_convs."), ("controlnet_mid_block.", "middle_block_out.0.")
        for ours, theirs in zeros:
            if name.startswith(ours):
                rest = name.removeprefix(ours)
                number, _, leaf = rest.rpartition(".")
                names[name] = f"control_model.{theirs}{f'{number}.0.{leaf}' if number else leaf}"
    save_file({names[k]: v.contiguous() for k, v in state.items()}, file)
    return file
