"""Every form of LoRA and its kin, as complete files: the merged weights are diffusers', or the published formula's."""

import json

import pytest
import torch
from safetensors.torch import save_file

from muybridge.models.weights.lora import apply_lora
from tests import adapter_files
from tests.adapter_files import (
    RANK,
    Parts,
    by_diffusers,
    check,
    kohya,
    layers,
    old,
    peft,
    scripts,
    with_settings,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def dora(told, parts):
    for name in list(told):
        if name.endswith("lora_A.weight"):
            model, _, layer = name.removesuffix(".lora_A.weight").partition(".")
            network = parts.unet if model == "unet" else parts.text
            weight = network.get_submodule(layer.removeprefix("text_model.")).weight
            norms = weight.flatten(1).norm(dim=1) * 1.5
            told[name.replace("lora_A.weight", "lora_magnitude_vector")] = norms.reshape(
                (1, -1, 1, 1) if weight.ndim == 4 else (-1,)
            )
    return told


#: what diffusers reads: name -> (tensors, header)
READ_BY_DIFFUSERS = {
    "peft": lambda p: (peft(p), None),
    "peft, convolutions": lambda p: (peft(p, kinds=("attention", "ff", "proj", "conv", "time", "ends")), None),
    "training scripts": lambda p: (scripts(p), None),
    "old diffusers": lambda p: (old(p), None),
    "old diffusers without a prefix": lambda p: (old(p, prefix="", text=False), None),
    "kohya": lambda p: (kohya(p), None),
    "kohya LoCon": lambda p: (kohya(p, ("attention", "ff", "proj", "conv", "time")), None),
    "alpha in the header": lambda p: (peft(p), with_settings(r=RANK, lora_alpha=16)),
    "rank-stabilised": lambda p: (peft(p), with_settings(r=RANK, lora_alpha=16, use_rslora=True)),
    "alphas by pattern": lambda p: (
        peft(p), with_settings(r=RANK, lora_alpha=2, alpha_pattern={"attn1.to_q": 9, "fc1": 5}),
    ),
    "DoRA": lambda p: (dora(peft(p), p), with_settings(r=RANK, lora_alpha=6, use_dora=True)),
    "DoRA of convolutions": lambda p: (dora(peft(p, kinds=("attention", "conv")), p), None),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 0.4])
@pytest.mark.parametrize("form", READ_BY_DIFFUSERS)
def test_what_diffusers_reads_is_merged_with_its_numbers(parts, folder, tmp_path, form, scale):
    tensors, header = READ_BY_DIFFUSERS[form](parts)
    save_file(tensors, tmp_path / "l.safetensors", header)
    expected = by_diffusers(parts, tmp_path / "l.safetensors", scale)
    assert sum(map(len, expected)) == sum(k.endswith(("lora_A.weight", "down.weight")) for k in tensors)
    mine = Parts(folder)
    told = apply_lora(mine.unet, tmp_path / "l.safetensors", scale, mine.text)
    assert told.get("text_layers", 0) == len(expected[1]) and "left_out" not in told
    for network, weights in zip((mine.unet, mine.text), expected, strict=True):
        check(network, parts, weights)


COMPVIS = {
    "down_blocks.0.attentions.0": "input_blocks.1.1", "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op", "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2", "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0", "up_blocks.1.attentions.1": "output_blocks.3.1",
    "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}  # fmt: skip


def compvis(name):
    for ours, theirs in COMPVIS.items():
        if name == ours or name.startswith(f"{ours}."):
            rest = name.removeprefix(ours).removeprefix(".")
            return f"{theirs}.{COMPVIS.get(rest, rest)}".rstrip(".")
    raise AssertionError(name)


@pytest.mark.parametrize("dotted", [False, True])
def test_compvis_names_are_the_same_layers(parts, folder, tmp_path, dotted):
    """kohya's files for CompVis' blocks (lora_unet_input_blocks_1_1_...), and dotted ones of other tools."""
    every = ("attention", "ff", "proj", "conv", "time", "ends")
    plain, renamed = {}, {}
    for name in layers(parts.unet, *every):
        down, up = parts.pair(parts.unet.get_submodule(name))
        there = f"diffusion_model.{compvis(name)}" if dotted else "lora_unet_" + compvis(name).replace(".", "_")
        for out, stem in ((plain, "lora_unet_" + name.replace(".", "_")), (renamed, there)):
            out |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(2.0)}
    save_file(plain, tmp_path / "a.safetensors")
    save_file(renamed, tmp_path / "b.safetensors")
    nets = [Parts(folder).unet, Parts(folder).unet]
    for net, file in zip(nets, ("a", "b"), strict=True):
        apply_lora(net, tmp_path / f"{file}.safetensors")
    for (name, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    check(nets[1], parts, {k: nets[0].state_dict()[k] for k in (f"{n}.weight" for n in layers(parts.unet, *every))})


# --- LyCORIS: diffusers reads none of these for Stable Diffusion; the formulas are 2309.14859's -----------------------


def lycoris(parts, factors):
    """Every layer of attention, feed-forward, convolutions and the text encoder with factors of a form."""
    out, expected = {}, ({}, {})
    for i, (network, prefix, kinds) in enumerate(
        ((parts.unet, "lora_unet_", ("attention", "ff", "conv")), (parts.text, "lora_te_text_model_", ("text",)))
    ):
        for name in layers(network, *kinds):
            weight = network.get_submodule(name).weight
            own, delta = factors(parts, weight)
            out |= {f"{prefix}{name.replace('.', '_')}.{k}": v for k, v in own.items()}
            expected[i][f"{name}.weight"] = (weight, delta)
    return out, expected


def hada(parts, weight):
    """(a1 b1) o (a2 b2) alpha / r; of kernels, a and b multiply the core."""
    flat = weight.flatten(1)
    f = {f"hada_w{i}_a": parts.random(len(weight), RANK) for i in "12"}
    f |= {f"hada_w{i}_b": parts.random(RANK, flat.shape[1]) for i in "12"}
    delta = torch.stack([f[f"hada_w{i}_a"] @ f[f"hada_w{i}_b"] for i in "12"]).prod(0).reshape(weight.shape)
    return f | {"alpha": torch.tensor(2.0)}, 2 / RANK * delta


def hada_tucker(parts, weight):
    if weight.ndim == 2:
        return hada(parts, weight)
    f, halves = {}, []
    for i in "12":
        t = parts.random(RANK, RANK, *weight.shape[2:])
        a, b = parts.random(RANK, weight.shape[0]), parts.random(RANK, weight.shape[1])
        f |= {f"hada_t{i}": t, f"hada_w{i}_a": a, f"hada_w{i}_b": b}
        halves.append(sum(t[r, s] * (a[r, :, None, None, None] * b[s, None, :, None, None])
                          for r in range(RANK) for s in range(RANK)))  # fmt: skip
    return f | {"alpha": torch.tensor(1.0)}, 1 / RANK * halves[0] * halves[1]


def kron(a, b):
    """Block (i, j) of the product is a[i, j] b."""
    return torch.cat([torch.cat([a[i, j] * b for j in range(a.shape[1])], 1) for i in range(a.shape[0])], 0)


def lokr(first, second):
    """Either factor whole or of low rank; the scale is alpha / r, and 1 where both are whole."""

    def made(parts, weight):
        rows, columns, kernel = len(weight), weight.shape[1], weight.shape[2:]
        small = 2 if rows % 4 or columns % 4 else 4
        shapes = (small, small), (rows // small, columns // small * kernel.numel())
        f, whole = {}, []
        for i, (shape, low) in enumerate(zip(shapes, (first, second), strict=True), 1):
            if low:
                f |= {f"lokr_w{i}_a": parts.random(shape[0], RANK), f"lokr_w{i}_b": parts.random(RANK, shape[1])}
                whole.append(f[f"lokr_w{i}_a"] @ f[f"lokr_w{i}_b"])
            else:
                value = parts.random(*shape)
                f[f"lokr_w{i}"] = value.reshape(shape[0], -1, *kernel) if i == 2 and kernel else value
                whole.append(value)
        b = whole[1].reshape(shapes[1][0], -1, *kernel)
        scale = 2.0 / RANK if first or second else 1.0
        return f | {"alpha": torch.tensor(2.0)}, scale * kron(whole[0], b)

    return made


def lokr_tucker(parts, weight):
    if weight.ndim == 2:
        return lokr(False, True)(parts, weight)
    a, core = parts.random(4, 4), parts.random(RANK, RANK, *weight.shape[2:])
    x, y = parts.random(RANK, weight.shape[0] // 4), parts.random(RANK, weight.shape[1] // 4)
    b = sum(core[r, s] * (x[r, :, None, None, None] * y[s, None, :, None, None])
            for r in range(RANK) for s in range(RANK))  # fmt: skip
    f = {"lokr_w1": a, "lokr_t2": core, "lokr_w2_a": x, "lokr_w2_b": y, "alpha": torch.tensor(4.0)}
    return f, 4 / RANK * kron(a, b)


def locon_tucker(parts, weight):
    down, up = parts.random(RANK, weight.shape[1]), parts.random(len(weight), RANK)
    if weight.ndim == 2:
        return {"lora_down.weight": down, "lora_up.weight": up}, up @ down
    mid = parts.random(RANK, RANK, *weight.shape[2:])
    x = torch.eye(weight.shape[1]).reshape(*[weight.shape[1]] * 2, 1, 1)
    size = weight.shape[2]
    # the three layers in a row, seen by an impulse in each input: their kernel, turned around
    padded = torch.nn.functional.pad(x, [size - 1] * 4)
    out = torch.nn.functional.conv2d(padded, down[:, :, None, None])
    out = torch.nn.functional.conv2d(torch.nn.functional.conv2d(out, mid), up[:, :, None, None])
    delta = out.transpose(0, 1).flip(2, 3)
    f = {"lora_down.weight": down[:, :, None, None], "lora_up.weight": up[:, :, None, None], "lora_mid.weight": mid}
    return f | {"alpha": torch.tensor(6.0)}, 6 / RANK * delta


def full(parts, weight):
    diff = parts.random(*weight.shape)
    return {"diff": diff}, diff


FORMS = {
    "LoHa": hada, "LoHa, Tucker": hada_tucker,
    "LoKr": lokr(False, False), "LoKr, second of low rank": lokr(False, True),
    "LoKr, both of low rank": lokr(True, True), "LoKr, first of low rank": lokr(True, False),
    "LoKr, Tucker": lokr_tucker, "LoCon, Tucker": locon_tucker, "full difference": full,
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "magnitudes"),
    [(form, magnitudes) for form in FORMS for magnitudes in ("none", "of outputs", "of inputs")
     if magnitudes == "none" or form != "full difference"],  # magnitudes belong to products
)  # fmt: skip
def test_lycoris_forms_are_merged_by_their_formulas(parts, folder, tmp_path, form, magnitudes):
    def factors(parts, weight):
        own, delta = FORMS[form](parts, weight)
        axes = [a for a in range(weight.ndim) if a != (0 if magnitudes == "of outputs" else 1)]
        if magnitudes != "none":
            own = own | {"dora_scale": 1.3 * torch.linalg.vector_norm(weight, dim=axes, keepdim=True)}
        return own, delta

    tensors, expected = lycoris(parts, factors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "l.safetensors")
    mine = Parts(folder)
    apply_lora(mine.unet, tmp_path / "l.safetensors", 0.7, mine.text)
    for network, table in zip((mine.unet, mine.text), expected, strict=True):
        weights = {}
        for name, (weight, delta) in table.items():
            new = weight + 0.7 * delta
            if magnitudes != "none":
                axis = 0 if magnitudes == "of outputs" else 1
                axes = [a for a in range(weight.ndim) if a != axis]
                before, after = (torch.linalg.vector_norm(w, dim=axes, keepdim=True) for w in (weight, new))
                new = new * 1.3 * before / after
            weights[name] = new
        check(network, parts, weights)


def test_differences_of_biases_and_norms(parts, folder, tmp_path):
    norm, conv = "down_blocks.0.resnets.0.norm1", "conv_in"
    told = {
        "lora_unet_conv_in.diff": parts.random(*parts.unet.conv_in.weight.shape),
        "lora_unet_conv_in.diff_b": parts.random(32),
        f"lora_unet_{norm.replace('.', '_')}.w_norm": parts.random(32),
        f"lora_unet_{norm.replace('.', '_')}.b_norm": parts.random(32),
        "lora_unet_conv_out.diff_b": parts.random(4),
        "lora_te_text_model_final_layer_norm.w_norm": parts.random(32),
        "lora_te_text_model_final_layer_norm.b_norm": parts.random(32),
        "unet.down_blocks.0.resnets.0.conv1.lora_A.weight": parts.random(RANK, 32, 3, 3),
        "unet.down_blocks.0.resnets.0.conv1.lora_B.weight": parts.random(32, RANK, 1, 1),
        "unet.down_blocks.0.resnets.0.conv1.lora_B.bias": parts.random(32),
    }
    save_file(told, tmp_path / "l.safetensors")
    mine = Parts(folder)
    apply_lora(mine.unet, tmp_path / "l.safetensors", 0.5, mine.text)
    for module, weight, bias in ((norm, "w_norm", "b_norm"), (conv, "diff", "diff_b")):
        for own, kind in (("weight", weight), ("bias", bias)):
            expected = parts.unet.get_submodule(module).get_parameter(own)
            expected = expected + 0.5 * told[f"lora_unet_{module.replace('.', '_')}.{kind}"]
            assert torch.allclose(mine.unet.get_submodule(module).get_parameter(own), expected, **CLOSE)
    assert torch.allclose(mine.unet.conv_out.bias, parts.unet.conv_out.bias + 0.5 * told["lora_unet_conv_out.diff_b"])
    end = mine.text.final_layer_norm
    assert torch.allclose(
        end.bias, 0.5 * told["lora_te_text_model_final_layer_norm.b_norm"] + parts.text.final_layer_norm.bias
    )
    own = "down_blocks.0.resnets.0.conv1"
    expected = parts.unet.get_submodule(own).bias + 0.5 * told[f"unet.{own}.lora_B.bias"]
    assert torch.allclose(mine.unet.get_submodule(own).bias, expected, **CLOSE)


def test_an_embedding_of_words(parts, folder, tmp_path):
    rows, width = parts.text.embeddings.token_embedding.weight.shape
    a, b = parts.random(RANK, rows), parts.random(width, RANK)
    stem = "text_encoder.text_model.embeddings.token_embedding.lora_embedding_"
    save_file({f"{stem}A": a, f"{stem}B": b}, tmp_path / "l.safetensors")
    mine = Parts(folder)
    apply_lora(mine.unet, tmp_path / "l.safetensors", 1.0, mine.text)
    expected = parts.text.embeddings.token_embedding.weight + torch.einsum("dr,rn->nd", b, a)
    assert torch.allclose(mine.text.embeddings.token_embedding.weight, expected, **CLOSE)


@pytest.mark.parametrize("adapter", ["", ".default"])
def test_pefts_own_folder_with_its_config_beside(parts, folder, tmp_path, adapter):
    told = {k.replace("unet.", "base_model.model.", 1): v for k, v in peft(parts, text=False).items()}
    told = {k.replace("lora_A", f"lora_A{adapter}").replace("lora_B", f"lora_B{adapter}"): v for k, v in told.items()}
    save_file(told, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 12}))
    mine = Parts(folder)
    entry = apply_lora(mine.unet, tmp_path / "adapter_model.safetensors")
    assert len(entry["settings_sha256"]) == 64
    own = {k.removeprefix("base_model.model.").replace(adapter or "?", ""): v for k, v in told.items()}
    check(mine.unet, parts, adapter_files.fused(parts.unet, own, {}, {"lora_alpha": 12}, 1.0))
