"""The perceptual distance orders pictures as eyes do, and lets gradients through."""

import torch
from torch.nn.functional import avg_pool2d, interpolate

from muybridge.models.latent.perceptual import perceptual_distance


def test_order_and_gradient():
    torch.manual_seed(1)
    picture = interpolate(torch.rand(2, 3, 12, 12) * 2 - 1, scale_factor=8, mode="bicubic").clamp(-1, 1)
    distance = perceptual_distance()
    assert not any(p.requires_grad for p in distance.parameters())
    assert float(distance(picture, picture).max()) == 0
    shifted, noisy = picture.roll(1, 3), picture + 0.2 * torch.randn_like(picture)
    blurred = interpolate(avg_pool2d(picture, 8), scale_factor=8)
    other = picture.flip(0)
    values = [float(distance(picture, x).mean()) for x in (shifted, blurred, noisy, other)]
    assert values[0] < 0.1 * values[1] and values[0] < 0.1 * values[2] and max(values[1:]) > 0.2
    guess = other.clone().requires_grad_(True)
    distance(guess, picture).sum().backward()
    assert bool(guess.grad.abs().sum() > 0)
