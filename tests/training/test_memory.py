"""A training step's memory, counted on the meta device: right where it can be measured, and small where it was made
small."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.models.inflated_unet import InflatedUNet
from muybridge.nn.live_bytes import LiveBytes
from muybridge.training.memory import FLOAT_BYTES, predicted_bytes

SD15 = dict(
    sample_size=64, in_channels=4, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8,
    cross_attention_dim=768,
)  # fmt: skip


def test_live_bytes_counts_each_storage_once_while_it_lives():
    with LiveBytes() as live:
        a = torch.empty(1000, device="meta")
        b = a.reshape(10, 100)[2:]
        assert live.now == 4000
        c = torch.empty(500, device="meta")
        assert live.now == live.peak == 6000
        del c
        assert live.now == 4000
        del a
        assert live.now == 4000  # a view keeps it
        del b
        assert live.now == 0 and live.peak == 6000


def test_a_chain_of_layers_by_hand():
    """Three linear layers: every input is kept, and the loss' own tensors."""
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(3)))
        x = torch.empty(1000, 64)
    found = predicted_bytes(model, lambda m: m(x).sum(), averaged=False)
    assert found["weights"] == 3 * 64 * 64 * FLOAT_BYTES and found["optimizer"] == 3 * found["weights"]
    rows = 1000 * 64 * FLOAT_BYTES  # kept: two inputs and the output; one or two gradients beside them
    assert 2 * rows <= found["activations"] <= 5.5 * rows


@pytest.mark.slow
def test_tuning_stable_diffusion_at_its_own_size_fits_into_twelve_gigabytes():
    """The paper's setting, 24 frames of 512 x 512, with `tune`'s defaults on an accelerator: checkpointing and bf16."""
    from muybridge.cli.tune_command import Tuning

    told = Tuning(caption="a man is skiing")
    assert told.gradient_checkpointing and told.precision == "auto" and told.num_frames == 24

    def total(checkpointing):
        with torch.device("meta"):
            network = InflatedUNet(dict(UNet2DConditionModel(**SD15).config), {"type": "tune_a_video"})
        trained = {name for name, _ in network.trainable_parameters()}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)
        if checkpointing:
            network.enable_gradient_checkpointing()
        network = network.train().to(torch.bfloat16)
        z = torch.empty(1, 4, told.num_frames, 64, 64, device="meta", dtype=torch.bfloat16)
        text, index = (torch.empty(*n, device="meta", dtype=torch.bfloat16) for n in ((1, 77, 768), (1,)))
        return predicted_bytes(network, lambda m: m(z, index, text).sample.square().mean())["total"] / 2**30

    assert total(True) < 12 < total(False)
