"""The perceptual distance orders pictures as eyes do, and lets gradients through."""

import torch
from torch.nn.functional import avg_pool2d, interpolate

from muybridge.models.perceptual import perceptual_distance


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


def test_a_steady_error_is_no_flicker():
    torch.manual_seed(2)
    truth = interpolate(torch.rand(1, 3, 4, 12, 12) * 2 - 1, size=(4, 48, 48))
    wrong = 0.3 * interpolate(torch.randn(1, 3, 4, 12, 12), size=(4, 48, 48))
    still = truth[:, :, :1].expand_as(truth)
    distance = perceptual_distance()
    steady = distance.of_videos(still + wrong[:, :, :1], still)
    shaking = distance.of_videos(still + wrong, still)
    frames = distance((still + wrong)[0].transpose(0, 1), still[0].transpose(0, 1))
    assert torch.allclose(shaking[0], frames.mean()[None], rtol=1e-4)
    assert float(steady[0]) > 0.01 and float(steady[1]) < 1e-9 and float(shaking[1]) > 0.01
    assert float(distance.of_videos(truth[:, :, :1], still[:, :, :1] + wrong[:, :, :1])[1]) == 0
