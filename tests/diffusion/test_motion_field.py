"""The warp of Text2Video-Zero as index shifts: the published table, and the grid it replaces, bit for bit."""

import pytest
import torch
from torch.nn.functional import grid_sample, interpolate

from muybridge.diffusion.motion_field import move, source_indices


def by_grid(z, delta):
    """The original: a 512 x 512 coordinate map plus the flow, resized, and the nearest latent with reflection."""
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    places = torch.stack([x + delta[0], y + delta[1]])[None]
    places = 2 * places / 512 - 1
    small = interpolate(places, size=z.shape[-2:], mode="bilinear", align_corners=False)
    return grid_sample(z, small.permute(0, 2, 3, 1), mode="nearest", padding_mode="reflection", align_corners=False)


@pytest.mark.parametrize("strength", [12, -12, 4, 8, 20, 3.5])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 64)])
def test_equals_the_original_warp(strength, size):
    z = torch.randn(1, 4, *size)
    for k in range(9):
        delta = (k * strength, k * strength)
        if any(((delta[0] - 0.5) * n / 512) % 1 == 0.5 for n in size):
            continue  # a tie: the original doubles entries there
        assert torch.equal(move(z, delta), by_grid(z, delta)), k


def test_published_shifts():
    shifts = [int(source_indices(64, 12.0 * k)[0]) for k in range(9)]
    assert shifts == [0, 1, 3, 4, 6, 7, 9, 10, 12]


def test_identity_period_and_no_new_values():
    z = torch.randn(1, 2, 8, 8)
    assert torch.equal(move(z, (0, 0)), z)
    assert torch.equal(move(z, (1024.5, 1024.5)), z)  # one period of reflection, twice the frame
    moved = move(z, (200, -90))
    assert set(moved.flatten().tolist()) <= set(z.flatten().tolist())
    assert not torch.equal(moved, z)
