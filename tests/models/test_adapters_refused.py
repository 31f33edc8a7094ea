"""LoRAs that cannot be read in full, that belong elsewhere or are damaged: one message, and nothing is changed."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from muybridge.errors import Notice, UserError
from muybridge.models.weights.lora import apply_lora
from tests.adapter_files import RANK, Parts, check, kohya, peft, with_settings


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
MOTION = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q"
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
    "rank 0": ({f"{STEM}.lora_down.weight": (0, 32), f"{STEM}.lora_up.weight": (32, 0), f"{STEM}.alpha": ()}, "rank 0"),
    "one number": ({f"{STEM}.lora_down.weight": (), f"{STEM}.lora_up.weight": (32, 2)}, "do not fit each"),
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
    "motion": ({f"{MOTION}.lora_A.weight": (2, 8), f"{MOTION}.lora_B.weight": (8, 2)}, "AnimateDiff's"),
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
