"""LoRAs in every format give W + s B A, on picture networks and under time."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from muybridge.errors import Notice, UserError
from muybridge.library.catalogue import split_lora
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.lora import apply_lora
from tests.models.test_inflated_unet import LAYERS, SHAPED, conditions, inputs

PLACE = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture
def net():
    return UNet2DConditionModel(**SHAPED["SD 2.1"]).eval()


def factors(net, rank=4):
    weight = net.get_submodule(PLACE).weight
    return torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)


FORMATS = {
    "peft": (f"unet.{PLACE}.lora_A.weight", f"unet.{PLACE}.lora_B.weight", None),
    "old diffusers": (
        f"unet.{PLACE.replace('.to_k', '.processor.to_k')}_lora.down.weight",
        f"unet.{PLACE.replace('.to_k', '.processor.to_k')}_lora.up.weight",
        None,
    ),
    "kohya": (
        f"lora_unet_{PLACE.replace('.', '_')}.lora_down.weight",
        f"lora_unet_{PLACE.replace('.', '_')}.lora_up.weight",
        f"lora_unet_{PLACE.replace('.', '_')}.alpha",
    ),
}


@pytest.mark.parametrize("kind", FORMATS)
@torch.no_grad()
def test_formats(net, kind, tmp_path):
    down_name, up_name, alpha_name = FORMATS[kind]
    down, up = factors(net)
    tensors = {down_name: down, up_name: up, "lora_te_text_model_x.lora_down.weight": torch.zeros(2, 2)}
    if alpha_name:
        tensors[alpha_name] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "l.safetensors")
    before = net.get_submodule(PLACE).weight.clone()
    file, scale = split_lora(f"{tmp_path / 'l.safetensors'}:0.5")
    with pytest.warns(Notice, match="its 1 tensors for a text encoder are left out"):
        told = apply_lora(net, Path(file), scale)
    expected = before + 0.5 * (2 / 4 if alpha_name else 1.0) * up @ down
    assert torch.allclose(net.get_submodule(PLACE).weight, expected, atol=1e-6)
    assert told["scale"] == 0.5 and told["left_out"] == 1 and len(told["sha256"]) == 64
    assert split_lora("a:b.safetensors") == ("a:b.safetensors", 1.0)


@torch.no_grad()
def test_convolutions_and_inflated_networks(net, tmp_path):
    place = "down_blocks.0.resnets.0.conv1"
    down, up = torch.randn(2, 16, 3, 3), torch.randn(16, 2, 1, 1)
    stem = f"lora_unet_{place.replace('.', '_')}"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "c.safetensors")
    video = InflatedUNet.from_image_model(net, LAYERS).eval()
    x = torch.randn(1, 16, 8, 8)
    plain = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=1), up)
    base = net.get_submodule(place)(x)
    apply_lora(net, tmp_path / "c.safetensors")
    assert torch.allclose(net.get_submodule(place)(x), base + plain, atol=1e-4)
    apply_lora(video, tmp_path / "c.safetensors")
    given = inputs()
    expected = torch.stack(
        [
            net(
                given["sample"][:, :, f], given["timestep"], encoder_hidden_states=given["encoder_hidden_states"]
            ).sample
            for f in range(5)
        ],
        2,
    )
    assert torch.allclose(video(**given, conditions=conditions()).sample, expected, atol=1e-4)


def test_what_does_not_fit(net, tmp_path):
    save_file({"unet.nowhere.to_k.lora_A.weight": torch.zeros(2, 4)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="another network"):
        apply_lora(net, tmp_path / "a.safetensors")
    save_file(
        {f"unet.{PLACE}.lora_A.weight": torch.zeros(2, 7), f"unet.{PLACE}.lora_B.weight": torch.zeros(16, 2)},
        tmp_path / "b.safetensors",
    )
    with pytest.raises(UserError, match="changes"):
        apply_lora(net, tmp_path / "b.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match="no LoRA for"):
        apply_lora(net, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match="no LoRA file"):
        apply_lora(net, tmp_path / "no.safetensors")
    (tmp_path / "d.safetensors").write_bytes(b"xx")
    with pytest.raises(UserError, match="not a readable"):
        apply_lora(net, tmp_path / "d.safetensors")
