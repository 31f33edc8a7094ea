"""Muon: orthogonal updates for matrices, AdamW for the rest, one learning rate."""

import pytest
import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.training.optimizers import COEFFICIENTS, Muon, make_optimizer, orthogonalise, split_matrices
from muybridge.training.recipe import TrainingConfig


def newton_schulz(x, rounds=5):
    """The published iteration as it is printed, in double precision."""
    a, b, c = COEFFICIENTS
    x = x.double() / x.double().norm()
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(16, 16), (32, 288), (96, 24)])
def test_orthogonalise_is_the_published_iteration(shape):
    matrices = torch.randn(3, *shape)
    out = orthogonalise(matrices)
    for matrix, found in zip(matrices, out, strict=True):
        expected = newton_schulz(matrix if shape[0] <= shape[1] else matrix.mT)
        assert torch.allclose(found.double(), expected if shape[0] <= shape[1] else expected.mT, atol=1e-4)
    if shape[0] != shape[1]:  # a random square matrix has a direction of nearly no size
        values = torch.linalg.svdvals(out)
        assert float(values.min()) > 0.6 and float(values.max()) < 1.25


def test_a_zero_gradient_moves_nothing():
    assert torch.equal(orthogonalise(torch.zeros(2, 16, 32)), torch.zeros(2, 16, 32))


def network():
    return nn.Sequential(nn.Conv2d(3, 24, 3), nn.GroupNorm(4, 24), nn.Conv2d(24, 32, 3), nn.Flatten(), nn.Linear(32, 8))


def test_only_real_matrices_are_orthogonalised():
    net = network()
    matrices, rest = split_matrices(net)
    assert [tuple(p.shape) for p in matrices] == [(24, 3, 3, 3), (32, 24, 3, 3)]
    assert sum(p.numel() for p in matrices + rest) == sum(p.numel() for p in net.parameters())
    net[2].weight.requires_grad_(False)
    assert len(split_matrices(net)[0]) == 1


def test_the_rest_is_stepped_as_by_adamw_and_gradients_stay():
    torch.manual_seed(0)
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    settings = dict(lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, eps=1e-8)
    muon, adamw = make_optimizer("muon", ours, **settings), make_optimizer("adamw", theirs, **settings)
    matrices = {id(p) for p in split_matrices(ours)[0]}
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in ours.parameters()]
        for net, optimizer in ((ours, muon), (theirs, adamw)):
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
            assert all(p.grad is not None for p in net.parameters())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) == (id(a) not in matrices)


@pytest.mark.parametrize("shape", [(16, 16), (64, 128), (128, 32)])
def test_an_update_has_the_size_of_adamws(shape):
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape) * 1e3
    Muon([{"params": [weight], "matrices": True}], lr=0.1).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.25)


def test_matrices_are_stepped_by_muons_formula():
    """m <- b m + (1 - b) g; W <- (1 - lr decay) W - lr 0.2 sqrt(max side) orthogonalised((1 - b) g + b m)."""
    weight, rate, decay, beta = nn.Parameter(torch.randn(16, 48)), 0.1, 0.3, 0.9
    expected, average = weight.detach().double().clone(), torch.zeros(16, 48, dtype=torch.float64)
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=rate, momentum=beta, weight_decay=decay)
    for _ in range(3):
        weight.grad = torch.randn(16, 48)
        gradient = weight.grad.double()
        optimizer.step()
        average = beta * average + (1 - beta) * gradient
        direction = newton_schulz((1 - beta) * gradient + beta * average)
        expected = (1 - rate * decay) * expected - rate * 0.2 * 48**0.5 * direction
        torch.testing.assert_close(weight.detach().double(), expected, atol=1e-3, rtol=0)


def test_unknown_optimizer_offers_the_nearest():
    with pytest.raises(UserError, match="muon"):
        TrainingConfig(optimizer="moun")


def test_sharded_matrices_are_refused():
    class Sharded(nn.Parameter):
        def full_tensor(self):
            return self

    weight = Sharded(torch.zeros(16, 16))
    weight.grad = torch.ones(16, 16)
    with pytest.raises(UserError, match="adamw"):
        Muon([{"params": [weight], "matrices": True}], lr=0.1).step()
