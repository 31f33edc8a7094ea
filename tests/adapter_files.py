"""Complete LoRA files in every form in use, on the tiny folder of user_folders, and what diffusers makes of them.

diffusers merges by PEFT, which is not installed here: its own converters (`lora_state_dict` and what
`load_lora_weights` calls after it) name every layer, and PEFT's formula W + s alpha / r B A is written out below.
"""

import json

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from transformers import CLIPTextModel

RANK = 3
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


class Parts:
    """The U-Net and text encoder of a folder, with weights that differ from layer to layer."""

    def __init__(self, folder):
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder").requires_grad_(False)
        self.generator = torch.Generator().manual_seed(1)

    def random(self, *shape):
        return torch.randn(*shape, generator=self.generator) * 0.3

    def pair(self, module):
        """A down and an up matrix of a layer, kernels for a kernel."""
        weight = module.weight
        down = self.random(RANK, *weight.shape[1:])
        return down, self.random(weight.shape[0], RANK, *[1] * (weight.ndim - 2))


def layers(network, *kinds):
    """Names of layers: attention, feed-forward, projections, convolutions, text."""
    wanted = {
        "attention": lambda n: any(n.endswith(f"attn{i}.{q}") for i in (1, 2) for q in ATTENTION),
        "ff": lambda n: n.endswith(("ff.net.0.proj", "ff.net.2")),
        "proj": lambda n: n.endswith(("proj_in", "proj_out")),
        "conv": lambda n: n.endswith(("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")),
        "time": lambda n: n.endswith(("time_emb_proj", "time_embedding.linear_1")),
        "ends": lambda n: n in ("conv_in", "conv_out"),
        "text": lambda n: n.endswith(("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")),
    }
    found = [n for n, m in network.named_modules() if hasattr(m, "weight") and any(wanted[k](n) for k in kinds)]
    assert found
    return found


def peft(parts, text=True, kinds=("attention", "ff")):
    """PEFT's names, as diffusers saves them today, with prefixes of the two models."""
    out = {}
    for name in layers(parts.unet, *kinds):
        down, up = parts.pair(parts.unet.get_submodule(name))
        out |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    for name in layers(parts.text, "text") if text else ():
        down, up = parts.pair(parts.text.get_submodule(name))
        stem = f"text_encoder.text_model.{name}"
        out |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    return out


def scripts(parts):
    """What diffusers' training scripts write: convert_state_dict_to_diffusers of PEFT's names."""
    told = peft(parts)
    out = {}
    for model in ("unet", "text_encoder"):
        own = {k.removeprefix(f"{model}."): v for k, v in told.items() if k.startswith(f"{model}.")}
        out |= {f"{model}.{k}": v for k, v in convert_state_dict_to_diffusers(own).items()}
    assert any(".lora.down.weight" in k for k in out) and any("lora_linear_layer" in k for k in out)
    return out


def old(parts, prefix="unet.", text=True):
    """diffusers of early 2023: attention processors; without a prefix, AnimateDiff's adapter."""
    out = {}
    for name in layers(parts.unet, "attention"):
        down, up = parts.pair(parts.unet.get_submodule(name))
        block, _, layer = name.removesuffix(".0").rpartition(".")
        stem = f"{prefix}{block}.processor.{layer}_lora"
        out |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    old_names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    for name in layers(parts.text, "text") if text else ():
        block, _, layer = name.rpartition(".")
        if layer in old_names:
            down, up = parts.pair(parts.text.get_submodule(name))
            stem = f"text_encoder.text_model.{block}.{old_names[layer]}_lora"
            out |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return out


def kohya(parts, kinds=("attention", "ff", "proj"), text=True, extra=lambda parts, stem, module: {}):
    """kohya's names with alphas that differ from layer to layer.

    Args:
        extra: further tensors of a layer.
    """
    out = {}
    both = [(parts.unet, "lora_unet_", layers(parts.unet, *kinds))]
    both += [(parts.text, "lora_te_text_model_", layers(parts.text, "text"))] if text else []
    for network, prefix, names in both:
        for i, name in enumerate(names):
            stem, module = prefix + name.replace(".", "_"), network.get_submodule(name)
            down, up = parts.pair(module)
            out |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            out[f"{stem}.alpha"] = torch.tensor(1.0 + i % 4)
            out |= extra(parts, stem, module)
    return out


def by_diffusers(parts, file, scale):
    """(U-Net's, text encoder's) changed weights, with diffusers' names of layers and PEFT's formula."""
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(str(file), return_lora_metadata=True)
    prefixed = any(k.startswith(("unet.", "text_encoder.")) for k in state)
    out = []
    for model, network in (("unet", parts.unet), ("text_encoder", parts.text)):
        own = {k.removeprefix(f"{model}."): v for k, v in state.items() if k.startswith(f"{model}.")}
        own = own if prefixed or model != "unet" else dict(state)
        given = {k.removeprefix(f"{model}."): v for k, v in (alphas or {}).items() if k.startswith(f"{model}.")}
        convert = convert_unet_state_dict_to_peft
        if model == "text_encoder" and own:
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
            own = {k.removeprefix("text_model."): v for k, v in own.items()}
            given = {k.removeprefix("text_model."): v for k, v in convert_text_alphas(given).items()}
        else:
            own, given = (own if "lora_A" in next(iter(own), "lora_A") else convert(own)), convert(given)
        settings = {k.removeprefix(f"{model}."): v for k, v in (metadata or {}).items() if k.startswith(f"{model}.")}
        out.append(fused(network, own, given, settings, scale))
    return out


def convert_text_alphas(alphas):
    named = {k.removesuffix(".alpha"): torch.tensor(v) for k, v in alphas.items()}
    return {f"{k}.alpha": v for k, v in convert_state_dict_to_peft(convert_state_dict_to_diffusers(named)).items()} if (
        named
    ) else {}  # fmt: skip


def fused(network, own, alphas, settings, scale):
    """PEFT's LoraLayer.merge after set_scale: W + scale alpha / r B A; with magnitudes m |W'|^-1 W' (DoRA)."""
    by_layer = {k.partition(".lora_A")[0].removesuffix(".alpha"): float(v) for k, v in alphas.items()}
    weights = {}
    for key, down in own.items():
        if ".lora_A" not in key:
            continue
        name = key.partition(".lora_A")[0]
        up, module = own[key.replace("lora_A", "lora_B")], network.get_submodule(name)
        rank = down.shape[0]
        alpha = by_layer.get(name, settings.get("lora_alpha", rank))
        alpha = next((v for k, v in settings.get("alpha_pattern", {}).items() if name.endswith(k)), alpha)
        factor = alpha / (rank**0.5 if settings.get("use_rslora") else rank)
        if module.weight.ndim == 4:
            delta = torch.einsum("orxy,rihw->oihw", up.reshape(*up.shape[:2], 1, 1), down)
        else:
            delta = up @ down
        new = module.weight + scale * factor * delta
        magnitude = own.get(f"{name}.lora_magnitude_vector")
        if magnitude is not None:
            others = tuple(range(1, new.ndim))
            new = (
                new
                * magnitude.reshape(-1, *[1] * (new.ndim - 1))
                / torch.linalg.vector_norm(new, dim=others, keepdim=True)
            )
        weights[f"{name}.weight"] = new
    return weights


def with_settings(**settings):
    flat = {f"{m}.{k}": v for m in ("unet", "text_encoder") for k, v in settings.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(flat)}


def check(network, parts, weights):
    """A network's weights are the expected ones, and the others as they were."""
    before = (parts.text if "embeddings.token_embedding.weight" in network.state_dict() else parts.unet).state_dict()
    for name, value in network.state_dict().items():
        if name in weights:
            assert torch.allclose(value, weights[name], **CLOSE), name
            assert not torch.allclose(value, before[name], atol=1e-4), name
        else:
            assert torch.equal(value, before[name]), name
