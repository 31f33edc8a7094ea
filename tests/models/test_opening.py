"""A network read tensor by tensor is the network that diffusers reads, packed or not; damage is told by name."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from muybridge.errors import UserError
from muybridge.models.weights.compact import pack_file
from muybridge.models.weights.opening import open_network, stream_weights
from muybridge.models.weights.packaged import WEIGHTS

SMALL = dict(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), cross_attention_dim=32,
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=4, norm_num_groups=8,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    UNet2DConditionModel(**SMALL).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["whole", "half", "packed"])
def test_it_opens_what_diffusers_opens(folder, kind):
    if kind == "half":
        UNet2DConditionModel.from_pretrained(folder).half().save_pretrained(folder)
    there = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    if kind == "packed":
        pack_file(folder / WEIGHTS)
    opened = open_network(UNet2DConditionModel, folder)
    assert list(opened.state_dict()) == list(there.state_dict()) and not opened.training
    assert not any(p.requires_grad or p.is_meta for p in opened.parameters())
    assert opened.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    given = torch.randn(2, 4, 8, 8), torch.tensor(3), torch.randn(2, 5, 32)
    with torch.no_grad():
        assert torch.allclose(opened(*given).sample, there(*given).sample, atol=2e-2 if kind == "packed" else 1e-5)


def test_the_stream_is_the_file(folder):
    for name, value in stream_weights(folder / WEIGHTS):
        assert torch.equal(value, load_file(folder / WEIGHTS)[name])


def test_damage_is_told(folder):
    weights = load_file(folder / WEIGHTS)
    name = "conv_in.weight"

    def refused(changed, words):
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(UserError, match=words):
            open_network(UNet2DConditionModel, folder)

    refused({k: v for k, v in weights.items() if k != name}, "missing from its weights, the first is conv_in.weight")
    refused({**weights, "more": torch.zeros(2)}, "more stands in its weights")
    refused({**weights, name: torch.zeros(2, 2)}, r"conv_in.weight is \(2, 2\)")
    save_file(weights, folder / WEIGHTS)
    data = (folder / WEIGHTS).read_bytes()
    for cut, words in ((data[: len(data) // 2], "cut short"), (data[:4], "readable"), (b"x" * 100, "damaged|readable")):
        (folder / WEIGHTS).write_bytes(cut)
        with pytest.raises(UserError, match=words):
            open_network(UNet2DConditionModel, folder)
