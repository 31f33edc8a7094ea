"""Every form of LoRA and its kin, as complete files: the merged weights are diffusers', or the published formula's."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from muybridge.errors import Notice, UserError
from muybridge.models.weights.lora import apply_lora
from tests import adapter_files, user_folders
from tests.adapter_files import RANK, Parts, by_diffusers, kohya, layers, old, peft, scripts

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.fixture
def parts(folder):
    return Parts(folder)


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


def with_settings(**settings):
    flat = {f"{m}.{k}": v for m in ("unet", "text_encoder") for k, v in settings.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(flat)}


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


def check(network, parts, weights):
    """A network's weights are the expected ones, and the others as they were."""
    before = (parts.text if "embeddings.token_embedding.weight" in network.state_dict() else parts.unet).state_dict()
    for name, value in network.state_dict().items():
        if name in weights:
            assert torch.allclose(value, weights[name], **CLOSE), name
            assert not torch.allclose(value, before[name], atol=1e-4), name
        else:
            assert torch.equal(value, before[name]), name


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


@pytest.mark.parametrize("magnitudes", ["none", "of outputs", "of inputs"])
@pytest.mark.parametrize("form", FORMS)
def test_lycoris_forms_are_merged_by_their_formulas(parts, folder, tmp_path, form, magnitudes):
    if form == "full difference" and magnitudes != "none":
        pytest.skip("magnitudes belong to products")

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
                new = (
                    new
                    * 1.3
                    * torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
                    / torch.linalg.vector_norm(new, dim=axes, keepdim=True)
                )
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


def test_a_text_half_without_its_encoder_is_named_and_alone_refused(parts, tmp_path):
    told = kohya(parts)
    save_file(told, tmp_path / "l.safetensors")
    left = sum(k.startswith("lora_te") for k in told)
    with pytest.warns(Notice, match=f"its {left} tensors for a text encoder are left out"):
        entry = apply_lora(parts.unet, tmp_path / "l.safetensors")
    assert entry["left_out"] == left
    save_file({k: v for k, v in told.items() if k.startswith("lora_te")}, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match="changes text encoder alone"):
        apply_lora(parts.unet, tmp_path / "t.safetensors")


STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PEFT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
PAIR = {f"{STEM}.lora_down.weight": (2, 32), f"{STEM}.lora_up.weight": (32, 2)}
WIDE = STEM.replace("attn1_to_q", "attn2_to_k")
#: name -> (tensors beside a whole pair or alone, what the message says)
REFUSED = {
    "OFT": ({**PAIR, f"{STEM}.oft_blocks": (4, 8, 8)}, "OFT"),
    "IA3": ({f"{STEM}.weight": (32,), f"{STEM}.on_input": ()}, "IA3"),
    "GLoRA": ({f"{STEM}.a1.weight": (2, 32), f"{STEM}.b1.weight": (32, 2)}, "GLoRA"),
    "bundled embedding": ({**PAIR, "bundle_emb.word.string_to_param.*": (2, 32)}, "textual inversion"),
    "unknown": ({**PAIR, "something.else": (2,)}, "of no kind that is known"),
    "sparse bias": ({**PAIR, f"{STEM}.bias_indices": (2, 3)}, "sparse bias"),
    "no up": ({f"{STEM}.lora_down.weight": (2, 32)}, "its up is missing"),
    "no down": ({f"{STEM}.lora_up.weight": (32, 2)}, "its down is missing"),
    "alpha alone": ({**PAIR, "lora_unet_conv_in.alpha": ()}, "conv_in: holds alpha, and the matrices"),
    "magnitude alone": ({**PAIR, "lora_unet_conv_in.dora_scale": (32, 1, 1, 1)}, "holds dora_scale, and the matrices"),
    "half a LoHa": ({f"{STEM}.hada_w1_a": (32, 2), f"{STEM}.hada_w1_b": (2, 32)}, "hada_w2_a, hada_w2_b is missing"),
    "half a LoKr": ({f"{STEM}.lokr_w1": (4, 4), f"{STEM}.lokr_w2_a": (8, 2)}, "lokr_w2 is missing"),
    "two kinds in one layer": ({**PAIR, f"{STEM}.lokr_w1": (4, 4)}, "of several kinds"),
    "twice": ({**PAIR, f"{PEFT}.lora_A.weight": (2, 32)}, "are the same part of one layer"),
    "wrong shape": ({f"{STEM}.lora_down.weight": (2, 16), f"{STEM}.lora_up.weight": (32, 2)},
                    r"attn1.to_q by \(32, 16\), the network's is \(32, 32\)"),
    "turned shape": ({f"{WIDE}.lora_down.weight": (2, 16), f"{WIDE}.lora_up.weight": (64, 2)},
                     r"attn2.to_k by \(64, 16\), the network's is \(32, 32\)"),
    "ranks that differ": ({f"{STEM}.lora_down.weight": (2, 32), f"{STEM}.lora_up.weight": (32, 3)}, "do not fit each"),
    "magnitudes": ({**PAIR, f"{STEM}.dora_scale": (7, 1)}, r"7 magnitudes for .*to_q.*\(32, 32\)"),
    "kernel": ({"lora_unet_conv_in.lora_down.weight": (2, 4, 1, 9), "lora_unet_conv_in.lora_up.weight": (32, 2, 1, 1)},
               r"by \(32, 4, 1, 9\), the network's is \(32, 4, 3, 3\)"),
    "no bias": ({f"{STEM}.diff_b": (32,)}, "the network's is none"),
    "another network": ({"unet.nowhere.to_k.lora_A.weight": (2, 4), "unet.nowhere.to_k.lora_B.weight": (4, 2)},
                        "for another network: 2 of its tensors"),
    "XL, by shape": ({f"{WIDE}.lora_down.weight": (2, 2048), f"{WIDE}.lora_up.weight": (32, 2)},
                     "made for a model of Stable Diffusion XL"),
    "XL, by layer": ({"lora_unet_label_emb_0_0.lora_down.weight": (2, 8), "lora_unet_label_emb_0_0.lora_up.weight":
                      (8, 2)}, "made for Stable Diffusion XL"),
    "XL, by its text encoders": ({**PAIR, "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 8),
                                  "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (8, 2)},
                                 "is for Stable Diffusion XL"),
    "a transformer": ({"transformer.x.lora_A.weight": (2, 8), "transformer.x.lora_B.weight": (8, 2)}, "a transformer"),
    "motion": ({"down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0."
                f"processor.to_q_lora.{end}.weight": shape for end, shape in (("down", (2, 8)), ("up", (8, 2)))}, "AnimateDiff's"),
    "no adapter": ({"x": (2,)}, "no LoRA for any network"),
    "nothing": ({}, "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_in_full_is_refused_and_changes_nothing(parts, folder, tmp_path, name):
    shapes, said = REFUSED[name]
    save_file({k: torch.ones(s) for k, s in shapes.items()}, tmp_path / "l.safetensors")
    mine = Parts(folder)
    with pytest.raises(UserError, match=said):
        apply_lora(mine.unet, tmp_path / "l.safetensors", 1.0, mine.text)
    check(mine.unet, parts, {})


SETTINGS = {
    "a rank that is not the tensors'": ({"r": 7, "lora_alpha": 4}, "have rank 3, the file's metadata says 7"),
    "layers that were repeated": ({"layer_replication": [[0, 2]]}, "layer_replication"),
    "whole modules": ({"modules_to_save": ["conv_in"]}, "modules_to_save"),
    "a changed base": ({"init_lora_weights": "pissa_niter_4"}, "the model's own weights were changed"),
    "an alpha that is no number": ({"lora_alpha": "much"}, "lora_alpha is 'much'"),
    "a pattern that is none": ({"alpha_pattern": [1]}, "alpha_pattern is"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_metadata_that_is_not_read_is_refused(parts, tmp_path, name):
    settings, said = SETTINGS[name]
    save_file(peft(parts), tmp_path / "l.safetensors", with_settings(**settings))
    with pytest.raises(UserError, match=said):
        apply_lora(parts.unet, tmp_path / "l.safetensors", 1.0, parts.text)


def test_damaged_and_pickled_files(parts, tmp_path):
    told = kohya(parts)
    name = next(iter(told))
    for value in (float("nan"), float("inf")):
        broken = {**told, name: torch.full_like(told[name], value)}
        save_file(broken, tmp_path / "nan.safetensors")
        with pytest.raises(UserError, match="not finite"):
            apply_lora(parts.unet, tmp_path / "nan.safetensors")
    save_file({k: v.to(torch.int8) if "down" in k else v for k, v in told.items()}, tmp_path / "int.safetensors")
    with pytest.raises(UserError, match="holds torch.int8"):
        apply_lora(parts.unet, tmp_path / "int.safetensors")
    for ending in (".bin", ".pt", ".ckpt"):
        (tmp_path / f"x{ending}").write_bytes(b"x")
        with pytest.raises(UserError, match="pickled weights can run code"):
            apply_lora(parts.unet, tmp_path / f"x{ending}")
    save_file(peft(parts), tmp_path / "meta.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(UserError, match="lora_adapter_metadata cannot be read"):
        apply_lora(parts.unet, tmp_path / "meta.safetensors")


def test_half_precision_files_and_networks(parts, folder, tmp_path):
    told = {k: v.half() for k, v in kohya(parts, text=False).items()}
    save_file(told, tmp_path / "h.safetensors")
    mine = Parts(folder).unet.half()
    apply_lora(mine, tmp_path / "h.safetensors")
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    stem = "lora_unet_" + name.replace(".", "_")
    stored = load_file(tmp_path / "h.safetensors")
    delta = stored[f"{stem}.lora_up.weight"].float() @ stored[f"{stem}.lora_down.weight"].float()
    expected = parts.unet.get_submodule(name).weight.half().float() + float(stored[f"{stem}.alpha"]) / RANK * delta
    assert torch.equal(mine.get_submodule(name).weight, expected.half())
    save_file({k: v * 1e4 if "lora_up" in k else v for k, v in told.items()}, tmp_path / "big.safetensors")
    with pytest.raises(UserError, match="not finite|infinite"):
        apply_lora(mine, tmp_path / "big.safetensors", 100.0)
