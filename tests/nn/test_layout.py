"""Linear layers by convolution are linear layers; the layout changes no parameter's name, value or gradient."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.nn import layout
from muybridge.nn.layout import WORTH_IT, ConvolvedLinear, suit_cpu
from muybridge.nn.pieces import CachedFeedForward


@pytest.mark.parametrize("shape", [(4096, 32), (64, 64, 32), (2, 3, 512, 32), (3, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_layer(shape, bias):
    plain = nn.Linear(32, 48, bias)
    other = copy.deepcopy(plain)
    other.__class__ = ConvolvedLinear
    x = torch.randn(shape)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = plain(a), other(b)
    assert y.shape == z.shape and torch.allclose(y, z, atol=1e-5)
    y.square().mean().backward()
    z.square().mean().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-6)
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-5)


@pytest.mark.parametrize("tokens, images", [(4096, 16), (4097, 0)])
def test_with_one_thread_it_has_pictures_enough_for_onednn(tokens, images, monkeypatch):
    """torch convolves 1 x 1 by a slower way for fewer than 16 pictures on one thread."""
    given = []
    monkeypatch.setattr(layout, "conv2d", lambda x, *rest: (given.append(len(x)), torch.conv2d(x, *rest))[1])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    layer, x = nn.Linear(32, 48), torch.randn(tokens, 32)
    expected = layer(x)
    layer.__class__ = ConvolvedLinear
    assert torch.allclose(layer(x), expected, atol=1e-5) and given == [images] * bool(images)


def test_frozen_weights_pass_gradients_on():
    layer = nn.Linear(32, 48).requires_grad_(False)
    layer.__class__ = ConvolvedLinear
    x = torch.randn(4096, 32, requires_grad=True)
    assert x.numel() * 48 > WORTH_IT
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.weight.sum(0).expand_as(x), atol=1e-4)
    assert layer.weight.grad is None


@pytest.mark.parametrize("convolved", [True, False])
def test_a_network_keeps_its_names_and_its_answer(convolved, monkeypatch, tmp_path):
    monkeypatch.setattr(layout, "linears_by_convolution", lambda: convolved)
    plain = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64), cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, attention_head_dim=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    quick = copy.deepcopy(plain)
    suit_cpu(quick)
    assert (sum(type(m) is ConvolvedLinear for m in quick.modules()) > 10) == convolved
    assert any(type(m) is CachedFeedForward for m in quick.modules())
    assert list(quick.state_dict()) == list(plain.state_dict())
    given = torch.randn(8, 4, 16, 16), torch.tensor(3), torch.randn(8, 5, 32)
    with torch.no_grad():
        assert torch.allclose(quick(*given).sample, plain(*given).sample, atol=1e-5)
    quick.save_pretrained(tmp_path)
    assert type(UNet2DConditionModel.from_pretrained(tmp_path)).__name__ == "UNet2DConditionModel"
    assert copy.deepcopy(quick)(*given).sample.shape == (8, 4, 16, 16)


def test_frozen_convolutions_of_a_training_network_lie_plainly():
    """torch 2.13 crashes in the backward pass of a GroupNorm that trains on channels-last input without a gradient."""
    network = nn.Sequential(nn.Conv2d(7, 8, 3), nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3))
    network[0].requires_grad_(False).to(memory_format=torch.channels_last)
    suit_cpu(network, only_trainable=True)
    assert network[0].weight.is_contiguous() and network[2].weight.is_contiguous(memory_format=torch.channels_last)
    network(torch.randn(2, 7, 8, 8)).square().sum().backward()
