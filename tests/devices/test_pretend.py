"""The pretend accelerator computes what the CPU computes, and refuses what a device refuses."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from tests.devices.conftest import ASKED

pytestmark = pytest.mark.skipif(bool(ASKED), reason="of the pretend accelerator; this run is on the machine's own")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Flatten(), nn.LayerNorm(128), nn.Linear(128, 4)
    )


@pytest.mark.parametrize("recomputed", [False, True])
def test_training_steps_are_the_cpus(device, recomputed):
    x, found = torch.randn(2, 3, 4, 4), []
    for where in ("cpu", device):
        net = network()
        own = [id(p) for p in net.parameters()]
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        net.to(where)
        assert [id(p) for p in net.parameters()] == own  # in place, as on a GPU: the optimizer's are the network's
        for _ in range(3):
            given = x.to(where)
            out = checkpoint(net, given, use_reentrant=False) if recomputed else net(given)
            out.square().mean().backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
        assert {p.device for p in net.parameters()} == {torch.device(where)}
        found.append([norm.cpu(), *(p.detach().cpu() for p in net.parameters())])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


MIXED = {
    "add": lambda there, here: there + here,
    "a number of the device and a tensor of the CPU": lambda there, here: there.sum() * here,
    "cat": lambda there, here: torch.cat([there, here]),
    "matmul": lambda there, here: there @ here.T,
    "where": lambda there, here: torch.where(here > 0, there, there),
    "masked_fill": lambda there, here: there.masked_fill(here > 0, 0.0),
    "indices of the device": lambda there, here: here[(there[0] > 9).long()],
    "values put at indices": lambda there, here: there.clone().index_put_((torch.tensor([0]),), here[:1]),
    "embedding": lambda there, here: nn.functional.embedding(torch.tensor([0]), there),
    "equal": lambda there, here: torch.equal(there, here),
    "convolution": lambda there, here: nn.functional.conv1d(there[None], here[..., None]),
    "attention": lambda there, here: scaled_dot_product_attention(there, here, here),
    "a CPU generator": lambda there, here: torch.randn(3, generator=torch.Generator(), device=there.device),
    "numpy": lambda there, here: there.numpy(),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_a_device_refuses(name, device):
    here = torch.randn(2, 2)
    with pytest.raises((RuntimeError, TypeError)):
        MIXED[name](here.to(device), here)


def test_what_a_device_takes(device):
    there = torch.zeros(2, 3, device=device)
    there[0] = torch.ones(3)  # a copy
    there[:, torch.tensor([0])] *= 2  # indices from the CPU
    assert (there + torch.tensor(1.0)).tolist() == [[3, 2, 2], [1, 1, 1]]
    assert torch.arange(3, device=device).device == torch.tensor([1], device=device).device == device


def test_double_precision_can_be_missing(no_float64):
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64).to(no_float64)
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, device=no_float64).double()
    assert torch.zeros(2, dtype=torch.float64).to(no_float64, torch.float32).device == no_float64


def test_autocast(device):
    net = network().to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = net(torch.randn(2, 3, 4, 4).to(device))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


def test_it_is_there_only_where_it_is_asked_for():
    assert not torch.accelerator.is_available()
