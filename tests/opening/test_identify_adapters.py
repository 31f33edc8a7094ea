"""`models import` of LoRAs and their kin: form, ranks, alphas, layers, what changes and what is needed."""

import pytest
import torch
from safetensors.torch import save_file

from muybridge.errors import UserError
from muybridge.opening.adapters import USED_BY
from muybridge.opening.identify import identify
from tests import user_folders
from tests.adapter_files import RANK, Parts, kohya, layers, old, peft, scripts, with_settings


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return Parts(user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15")))


def lokr_beside(parts):
    told = kohya(parts, text=False)
    return told | {
        "lora_unet_conv_out.lokr_w1": torch.ones(2, 2),
        "lora_unet_conv_out.lokr_w2": torch.ones(2, 16, 3, 3),
    }


def magnitudes(parts):
    return kohya(parts, extra=lambda p, stem, module: {f"{stem}.dora_scale": module.weight.flatten(1).norm(dim=1)})


#: name -> (tensors, header, kind, notes that are among the notes)
FILES = {
    "peft": (peft, None, "LoRA, diffusers names", [f"rank {RANK}; ", "no alpha: scale 1"]),
    "scripts": (scripts, None, "LoRA, diffusers names", [f"rank {RANK}; "]),
    "old": (old, None, "LoRA, old diffusers names", [f"rank {RANK}; ", "no alpha: scale 1"]),
    "kohya": (kohya, {"ss_base_model_version": "sd_v1"}, "LoRA, kohya names",
              ["alpha 1, 2, 3, 4 (in its tensors): scale 0.333333, 0.666667, 1, 1.33333", "trained on sd_v1"]),
    "LoCon": (lambda p: kohya(p, ("attention", "conv")), None, "LoRA and LoCon, kohya names", [" LoCon)"]),
    "LoKr beside": (lokr_beside, None, "LoRA and LoKr, kohya names", [f"rank {RANK} and whole matrices; ", "1 LoKr"]),
    "DoRA": (magnitudes, None, "LoRA with magnitudes (DoRA), kohya names", []),
    "header": (peft, with_settings(r=RANK, lora_alpha=6), "LoRA, diffusers names",
               ["alpha 6 (in its metadata): scale 2"]),
    "rslora": (peft, with_settings(r=RANK, lora_alpha=6, use_rslora=True), "LoRA, diffusers names",
               ["alpha 6 (in its metadata, alpha / sqrt(rank)): scale 3.4641"]),
    "full": (lambda p: {"lora_unet_conv_in.diff": p.unet.conv_in.weight.data, "lora_unet_conv_in.diff_b":
                        p.unet.conv_in.bias.data}, None, "full difference, kohya names", ["whole matrices; 1 layers"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_described(parts, tmp_path, name):
    made, header, kind, notes = FILES[name]
    tensors = made(parts)
    save_file(tensors, tmp_path / "l.safetensors", header)
    found = identify(tmp_path / "l.safetensors")
    assert found.kind == kind and found.used_by == USED_BY
    for note in notes:
        assert any(note in said for said in found.notes), (note, found.notes)
    text = any(n.startswith(("lora_te", "text_encoder")) for n in tensors)
    changes = next(n for n in found.notes if n.startswith("changes "))
    assert "the U-Net (" in changes and ("the text encoder (" in changes) == text
    assert any("CLIP" in need for need in found.needs) == text
    attends = any("attn2" in n for n in tensors)
    assert any("cross-attention 32" in need for need in found.needs) == attends


def test_how_many_layers_of_each_half(parts, tmp_path):
    save_file(kohya(parts), tmp_path / "l.safetensors")
    unet, text = len(layers(parts.unet, "attention", "ff", "proj")), len(layers(parts.text, "text"))
    found = identify(tmp_path / "l.safetensors")
    assert f"changes the U-Net ({unet} layers) and the text encoder ({text} layers)" in found.notes


def test_others_models_and_what_is_not_read(parts, tmp_path):
    def file(**tensors):
        save_file({k.replace("__", "."): torch.ones(v) for k, v in tensors.items()}, tmp_path / "x.safetensors")
        return identify(tmp_path / "x.safetensors")

    flux = file(transformer__x__lora_A__weight=(2, 8), transformer__x__lora_B__weight=(8, 2))
    assert "a transformer" in flux.notes[-1] and "does not sample with" in flux.needs[0]
    stem = "down_blocks__0__motion_modules__0__temporal_transformer__transformer_blocks__0__attention_blocks__0__to_q"
    motion = file(**{f"{stem}__lora_A__weight": (2, 8), f"{stem}__lora_B__weight": (8, 2)})
    assert motion.kind.startswith("AnimateDiff motion LoRA") and "--motion-module" in motion.used_by
    xl = file(lora_te2_text_model_x__lora_down__weight=(2, 8), lora_te2_text_model_x__lora_up__weight=(8, 2))
    assert "Stable Diffusion XL" in xl.needs[0]
    with pytest.raises(UserError, match="OFT"):
        file(lora_unet_x__oft_blocks=(2, 4, 4))
    with pytest.raises(UserError, match="its up is missing"):
        file(lora_unet_x__lora_down__weight=(2, 4))
