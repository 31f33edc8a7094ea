"""Noise belongs to a sample; frames may share a part of it."""

import pytest
import torch

from muybridge.diffusion.noise import Noise, correlated

SHAPE = (4, 8, 16, 16)


@pytest.mark.parametrize("rho", [0.25, 0.8, 1.0])
def test_frames_are_correlated_and_of_unit_variance(rho):
    noise = Noise([0, 1], correlation=rho)(SHAPE, "start")
    assert float(noise.var()) == pytest.approx(1, abs=0.06)
    for video in noise:
        found = torch.corrcoef(video.transpose(0, 1).flatten(1))[~torch.eye(8, dtype=torch.bool)]
        assert float(found.mean()) == pytest.approx(rho, abs=0.05)
    across = torch.corrcoef(noise.flatten(1))[0, 1]
    assert abs(float(across)) < 0.05


def test_by_hand():
    own, shared = torch.tensor([[[2.0, -1.0]]]).reshape(1, 1, 2, 1, 1), torch.full((1, 1, 1, 1, 1), 3.0)
    assert torch.allclose(correlated(own, shared, 0.36).flatten(), torch.tensor([1.8 + 1.6, 1.8 - 0.8]))


def test_none_is_what_it_was_and_seeds_keep_their_own():
    plain = Noise([5])(SHAPE, "start")
    assert torch.equal(Noise([5], correlation=0.0)(SHAPE, "start"), plain)
    both, one = Noise([4, 5], correlation=0.5)(SHAPE, "start"), Noise([5], correlation=0.5)(SHAPE, "start")
    assert torch.equal(both[1], one[0])
    assert torch.equal(Noise([5], correlation=0.5)((3,), "prior"), Noise([5])((3,), "prior"))  # no frames
