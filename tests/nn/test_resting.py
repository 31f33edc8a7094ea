"""Weights at rest: half the memory, the numbers of float32; who changes a weight changes what is computed."""

import copy
import shutil
import threading
import weakref
from contextlib import nullcontext

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from muybridge.library.inflated import open_unet, save_inflated
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.weights.opening import open_network
from muybridge.nn import layout, resting
from muybridge.nn.layout import suit_cpu
from muybridge.nn.live_bytes import META, LiveBytes
from muybridge.nn.resting import HALVES, Resting, is_at_rest, settle, wake, weights_at_rest


@pytest.fixture(autouse=True)
def small_ones_wait_too(monkeypatch):
    monkeypatch.setattr(resting, "FEWEST", 2**10)
    monkeypatch.setattr(resting, "LARGE", 2**10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    made = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=8, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    where = tmp_path_factory.mktemp("unet")
    made.half().save_pretrained(where)
    return where


def opened(folder, rest=True):
    with weights_at_rest() if rest else nullcontext():
        return open_network(UNet2DConditionModel, folder)


def said(network, z=None):
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) if z is None else z
    words = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    return network(z, 3, words).sample


def waiting(network):
    """How many weights are at rest; every one of them in half precision."""
    layers = [m for m in network.modules() if isinstance(m, Resting)]
    assert len(layers) == sum(p.dtype in HALVES for p in network.parameters())
    return len(layers)


@pytest.mark.parametrize("convolved", [True, False])
@torch.no_grad()
def test_a_network_at_rest_says_the_same_to_the_last_bit(convolved, folder, monkeypatch):
    monkeypatch.setattr(layout, "linears_by_convolution", lambda: convolved)
    monkeypatch.setattr(layout, "WORTH_IT", 1)
    plain, rests = opened(folder, rest=False), opened(folder)
    assert waiting(plain) == 0 and waiting(rests) > 40
    assert torch.equal(said(rests), said(plain))
    for network in (plain, rests):
        suit_cpu(network)
    kinds = {type(m).__name__ for m in rests.modules() if isinstance(m, Resting)}
    assert ("RestingConvolvedLinear" in kinds) == convolved and ("RestingLinear" in kinds) != convolved
    assert torch.equal(said(rests), said(plain)) and waiting(rests) > 40


def test_gradients_pass_through_it(folder):
    """Guidance by what is seen of a sample: every layer's weight is there until the way back."""
    grads = []
    for network in (opened(folder, rest=False), opened(folder)):
        z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        said(network, z).square().sum().backward()
        grads.append(z.grad)
    assert torch.equal(*grads)


def test_the_way_back_keeps_no_widened_weights(folder, monkeypatch):
    """Else a network at rest took more under gradients than one in float32."""
    made, widened = [], resting._widened

    def watched(*given):
        wide = widened(*given)
        made.append(weakref.ref(wide))
        return wide

    monkeypatch.setattr(resting, "_widened", watched)
    rests = opened(folder)
    out = said(rests, torch.randn(2, 4, 8, 8).requires_grad_())
    assert out.requires_grad and len(made) == waiting(rests) and not any(ref() is not None for ref in made)


def test_inference_mode_leaves_nothing_behind(folder):
    plain, rests = opened(folder, rest=False), opened(folder)
    threads, made = [], []

    def run():
        with torch.inference_mode():
            made.append(said(rests).clone())
        with torch.no_grad():
            made.append(said(rests))

    threads.append(threading.Thread(target=run))  # whose room is new
    threads[0].start()
    threads[0].join()
    with torch.no_grad():
        assert len(made) == 2 and all(torch.equal(one, said(plain)) for one in made)


@torch.no_grad()
def test_a_resting_layer_is_called_as_the_layer_that_it_stands_for(folder):
    with weights_at_rest():
        layer = settle(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64).half()))[1]
    x = torch.randn(2, 64)
    assert torch.equal(layer(input=x), layer(x))
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        rests = nn.Module.to(opened(folder), kind)
        assert not is_at_rest(rests) and {p.dtype for p in rests.parameters()} == {kind}


@torch.no_grad()
def test_two_threads_do_not_see_each_others_weights():
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64).half() for _ in range(4)]
    x = torch.randn(8, 64)
    with weights_at_rest():
        layers = [settle(nn.Sequential(nn.LayerNorm(64), layer))[1] for layer in layers]
    expected = [copy.deepcopy(layer) for layer in layers]
    for layer in expected:
        wake(layer)
    expected = [layer(x) for layer in expected]
    wrong = []

    @torch.no_grad()
    def run(order):
        for _ in range(300):
            for i in order:
                if not torch.equal(layers[i](x), expected[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=run, args=(order,)) for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(layer, Resting) for layer in layers) and not wrong


@torch.no_grad()
def test_what_changes_weights_changes_what_is_computed(folder):
    rests, plain = opened(folder), opened(folder, rest=False)
    other = {name: value + 1e-5 for name, value in plain.state_dict().items()}  # less than half precision tells apart
    rests.load_state_dict(other)
    plain.load_state_dict(other)
    assert waiting(rests) == 0 and torch.equal(said(rests), said(plain))
    assert not torch.equal(said(rests), said(opened(folder)))


@torch.no_grad()
def test_other_weights_of_some_layers_leave_the_rest_waiting(folder):
    rests, plain = opened(folder), opened(folder, rest=False)
    count = waiting(rests)
    some = {name: value + 1e-5 for name, value in plain.state_dict().items() if name.startswith("mid_block.")}
    inside = sum(isinstance(m, Resting) for m in rests.mid_block.modules())
    for network in (rests, plain):
        assert not network.load_state_dict(some, strict=False).unexpected_keys
    assert 0 < inside < count and waiting(rests) == count - inside
    assert torch.equal(said(rests), said(plain))


@torch.no_grad()
def test_temporal_layers_behind_a_network_at_rest_leave_it_waiting(folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folder, own / "unet")
    layers = {"type": "motion_modules", "heads": 4, "groups": 8}
    save_inflated(InflatedUNet.from_image_model(opened(folder), layers), tmp_path / "model", {"image": str(own)})
    with weights_at_rest():
        rests = open_unet(tmp_path / "model")
    plain = open_unet(tmp_path / "model")
    assert waiting(rests) > 0 and waiting(plain) == 0
    z, words = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 5, 32)
    assert torch.equal(*(network(z, torch.tensor([3.0]), words).sample for network in (rests, plain)))


@torch.no_grad()
def test_a_change_of_type_or_place_leaves_weights_as_they_wait(folder):
    rests = opened(folder)
    count, expected = waiting(rests), said(rests)
    nn.Module.to(rests, torch.float32)
    assert waiting(rests) == count and torch.equal(said(rests), expected)
    rests.to(META)
    assert waiting(rests) == count and all(p.is_meta for p in rests.parameters())
    wake(rests)
    assert waiting(rests) == 0


def test_only_half_precision_and_only_where_it_is_allowed(folder, tmp_path):
    assert waiting(opened(folder, rest=False)) == 0
    with weights_at_rest(), weights_at_rest(False):
        assert waiting(open_network(UNet2DConditionModel, folder)) == 0
    opened(folder, rest=False).save_pretrained(tmp_path)
    assert waiting(opened(tmp_path)) == 0
    with weights_at_rest():  # opened to compute in half precision: nothing is widened
        assert not is_at_rest(open_network(UNet2DConditionModel, folder, torch.float16))
        first, second = settle(nn.Sequential(nn.Linear(64, 64).half(), nn.Linear(64, 64).half()))
    assert not isinstance(first, Resting) and isinstance(second, Resting), "the first one's type is the network's"


def test_small_networks_are_widened_once(folder, monkeypatch):
    monkeypatch.setattr(resting, "LARGE", 10**8)
    assert waiting(opened(folder)) == 0


@torch.no_grad()
def test_a_widened_weight_is_counted(folder):
    """What a run takes (pipelines.peak): a widened weight counts while its layer computes."""
    layer = nn.Linear(256, 256).half()
    with weights_at_rest():
        layer = settle(nn.Sequential(nn.LayerNorm(256), layer))[1]
    with LiveBytes(mixing=True) as live:
        layer(torch.empty(1, 256, device=META))
    assert 256 * 256 * 4 <= live.peak < 256 * 256 * 4 + 8 * 256 * 4
