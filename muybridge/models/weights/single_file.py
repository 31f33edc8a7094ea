"""Stable Diffusion's single files (CompVis' names): what their tensors say of the networks in them (spec 14, 7.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from muybridge.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
UNET, VAE, CONTROL = "model.diffusion_model.", "first_stage_model.", "control_model."
#: Where text encoders lie: CLIP's own in 1.x and XL, OpenCLIP's in 2.x and XL.
CLIP_1, OPEN_2 = "cond_stage_model.transformer.", "cond_stage_model.model."
CLIP_XL, OPEN_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
#: Width of a head where a family keeps it fixed; 1.x keeps eight heads.
HEAD_WIDTH, HEADS_OF_1 = 64, 8
TABLE: dict[str, Any] = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
}  # fmt: skip


def family_of(names: Any) -> str:
    """ "1", "2" or "xl" by where the text encoder lies; "" where there is none (a ControlNet, a bare U-Net)."""
    beginnings = {"xl": OPEN_XL, "2": OPEN_2, "1": CLIP_1}
    return next((f for f, start in beginnings.items() if any(n.startswith(start) for n in names)), "")


def unet_config(shapes: Shapes, prefix: str, first_heads: bool) -> dict[str, Any]:
    """Arguments of UNet2DConditionModel, from the shapes under a prefix.

    Args:
        first_heads: eight heads at every level (1.x), not heads of 64.

    Raises:
        UserError: no such network there.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    if "input_blocks.0.0.weight" not in own:
        raise UserError(f"no picture network under {prefix!r}: its first convolution is missing")
    ops = sorted(int(m[1]) for name in own if (m := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name)))
    blocks = 1 + max(int(m[1]) for name in own if (m := re.match(r"input_blocks\.(\d+)\.", name)))
    per_level = (ops[0] if ops else blocks) - 1
    firsts = [1, *(op + 1 for op in ops)]
    widths = [own[f"input_blocks.{i}.0.in_layers.2.weight"][0] for i in firsts]
    depths = [_depth(own, f"input_blocks.{i}.1.") for i in firsts]
    context = next((s[-1] for n, s in own.items() if n.endswith("attn2.to_k.weight")), 0)
    heads = [HEADS_OF_1 if first_heads else max(1, width // HEAD_WIDTH) for width in widths]
    linear = any(len(s) == 2 for n, s in own.items() if n.endswith(".proj_in.weight"))
    made: dict[str, Any] = {
        "in_channels": own["input_blocks.0.0.weight"][1],
        "block_out_channels": widths,
        "layers_per_block": per_level,
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(depths)],
        "transformer_layers_per_block": [max(1, d) for d in depths],
        "attention_head_dim": heads,
        "cross_attention_dim": context,
        "use_linear_projection": linear,
    }
    if "label_emb.0.0.weight" in own:
        made |= {
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": own["label_emb.0.0.weight"][1],
        }  # fmt: skip
    if "out.2.weight" in own:
        made["out_channels"] = own["out.2.weight"][0]
    return made


def _depth(own: Shapes, start: str) -> int:
    """Transformer blocks of a layer."""
    found = [int(m[1]) for n in own if (m := re.match(re.escape(start) + r"transformer_blocks\.(\d+)\.", n))]
    return 1 + max(found, default=-1)


def vae_config(shapes: Shapes, xl: bool) -> dict[str, Any]:
    """Arguments of AutoencoderKL."""
    own = {name.removeprefix(VAE): shape for name, shape in shapes.items() if name.startswith(VAE)}
    levels = 1 + max(int(m[1]) for n in own if (m := re.match(r"encoder\.down\.(\d+)\.", n)))
    layers = 1 + max(int(m[1]) for n in own if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", n)))
    return {
        "block_out_channels": [own[f"encoder.down.{i}.block.0.conv2.weight"][0] for i in range(levels)],
        "layers_per_block": layers,
        "latent_channels": own["decoder.conv_in.weight"][1],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": 0.13025 if xl else 0.18215,
        "sample_size": 1024 if xl else 512,
        "force_upcast": xl,
    }


def clip_config(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """Arguments of CLIPTextConfig, of CLIP's own text encoder."""
    own = {n.removeprefix(prefix).removeprefix("text_model."): s for n, s in shapes.items() if n.startswith(prefix)}
    vocabulary, width = own["embeddings.token_embedding.weight"]
    return {
        **_encoder(vocabulary, width, own["embeddings.position_embedding.weight"][0]),
        "num_hidden_layers": _count(own, r"encoder\.layers\.(\d+)\."),
        "intermediate_size": own["encoder.layers.0.mlp.fc1.weight"][0],
        "hidden_act": "quick_gelu",
    }


def open_clip_config(shapes: Shapes, prefix: str, dropped: int) -> dict[str, Any]:
    """The same of OpenCLIP's.

    Args:
        dropped: layers at the end that are not used: one in 2.x.
    """
    own = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    vocabulary, width = own["token_embedding.weight"]
    return {
        **_encoder(vocabulary, width, own["positional_embedding"][0]),
        "num_hidden_layers": _count(own, r"transformer\.resblocks\.(\d+)\.") - dropped,
        "intermediate_size": own["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "hidden_act": "gelu",
        "projection_dim": own.get("text_projection", (width, width))[1],
    }


def _encoder(vocabulary: int, width: int, length: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary, "hidden_size": width, "max_position_embeddings": length,
        "num_attention_heads": max(1, width // HEAD_WIDTH), "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
    }  # fmt: skip


def _count(own: Shapes, pattern: str) -> int:
    return 1 + max(int(m[1]) for name in own if (m := re.match(pattern, name)))


def scheduler_config(family: str, prediction: str) -> dict[str, Any]:
    """The noise table that a family was trained on, as its folders keep it."""
    kind = {"1": "PNDMScheduler", "2": "DDIMScheduler", "xl": "EulerDiscreteScheduler"}[family]
    return {"_class_name": kind, **TABLE, "prediction_type": prediction}
