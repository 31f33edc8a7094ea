"""F9, F18 and the guidance variants."""

import math

import pytest
import torch

from muybridge.diffusion.guidance import (
    classifier_free,
    classifier_free_two,
    dynamic_threshold,
    guidance_interval,
    guide,
    linear_frame_scale,
    oscillating_weights,
    rescale_guided,
    scale_on_grid,
    with_threshold,
)
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.oracle import finite_denoiser
from muybridge.diffusion.prediction import to_eps, to_v, to_x
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import level_grid

F64 = torch.float64
SHAPE = (2, 3, 4, 5, 5)


def constant(value):
    calls = []

    def denoise(z, lam):
        calls.append(1)
        return value

    return denoise, calls


def test_f9_guidance_is_the_same_in_every_space():
    z, cond, uncond = (torch.randn(SHAPE, dtype=F64) for _ in range(3))
    lam = torch.tensor([-2.0, 1.5], dtype=F64)
    in_x = guide(cond, uncond, 3.0)
    for kind, into in (("epsilon", to_eps), ("v_prediction", to_v)):
        guided = guide(into(cond, z, lam, "sample"), into(uncond, z, lam, "sample"), 3.0)
        assert torch.allclose(to_x(guided, z, lam, kind), in_x, atol=1e-10)


def test_f9_scale_one_and_zero_call_one_network():
    cond, cond_calls = constant(torch.randn(SHAPE))
    uncond, uncond_calls = constant(torch.randn(SHAPE))
    z, lam = torch.randn(SHAPE), torch.zeros(2)
    assert torch.equal(classifier_free(cond, uncond, 1.0)(z, lam), cond(z, lam))
    assert not uncond_calls
    before = len(cond_calls)
    assert torch.equal(classifier_free(cond, uncond, 0.0)(z, lam), uncond(z, lam))
    assert len(cond_calls) == before


def test_per_frame_and_per_level_scales():
    c, u = torch.randn(SHAPE), torch.randn(SHAPE)
    cond, uncond = constant(c)[0], constant(u)[0]
    z, lam = torch.randn(SHAPE), torch.tensor([0.0, 5.0])
    per_frame = classifier_free(cond, uncond, linear_frame_scale(4, 1.0, 3.0))(z, lam)
    for f, g in enumerate(torch.linspace(1, 3, 4)):
        assert torch.allclose(per_frame[:, :, f], guide(c, u, g)[:, :, f], atol=1e-5)
    per_level = classifier_free(cond, uncond, lambda lam: 1 + lam)(z, lam)
    assert torch.allclose(per_level[0], guide(c, u, 1.0)[0], atol=1e-5)
    assert torch.allclose(per_level[1], guide(c, u, 6.0)[1], atol=1e-5)


def test_scale_on_grid_finds_the_step():
    lams = level_grid(CosineSchedule(), 6)
    scale = scale_on_grid(lams, [10, 11, 12, 13, 14, 15])
    assert scale(lams[:6]).tolist() == [10, 11, 12, 13, 14, 15]
    assert scale(torch.tensor([-math.inf])).tolist() == [10]


def test_weight_schedules():
    assert oscillating_weights(6, 15, 1, 2) == [15, 15, 15, 1, 15, 1]


def test_two_conditions():
    none, image, both = (torch.randn(SHAPE) for _ in range(3))
    z, lam = torch.randn(SHAPE), torch.zeros(2)
    denoise = classifier_free_two(constant(both)[0], constant(image)[0], constant(none)[0], 1.0, 1.0)
    assert torch.allclose(denoise(z, lam), both, atol=1e-6)
    off = classifier_free_two(constant(both)[0], constant(image)[0], constant(none)[0], 0.0, 2.0)
    assert torch.allclose(off(z, lam), none + 2 * (image - none), atol=1e-6)


def test_rescale_restores_the_spread_per_sample():
    conditional = torch.randn(SHAPE)
    guided = 5 * torch.randn(SHAPE)
    out = rescale_guided(guided, conditional, 1.0)
    assert torch.allclose(out.flatten(1).std(1), conditional.flatten(1).std(1), rtol=1e-4)
    assert torch.equal(rescale_guided(guided, conditional, 0.0), guided)
    z, lam = torch.randn(SHAPE), torch.tensor([0.0, 1.0])
    cond, uncond = constant(torch.randn(SHAPE))[0], constant(torch.randn(SHAPE))[0]
    denoise = classifier_free(cond, uncond, 6.0, rescale=1.0, kind="v_prediction")
    v = to_v(denoise(z, lam), z, lam, "sample").flatten(1).std(1)
    assert torch.allclose(v, to_v(cond(z, lam), z, lam, "sample").flatten(1).std(1), rtol=1e-3)


def test_f18_dynamic_threshold():
    small = torch.rand(SHAPE) * 1.8 - 0.9
    assert torch.equal(dynamic_threshold(small), small.clamp(-1, 1))
    wild = 6 * torch.randn(SHAPE)
    out = dynamic_threshold(wild)
    assert float(out.abs().max()) <= 1
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(dynamic_threshold(wild[:, :, order]), out[:, :, order])
    s = torch.quantile(wild.flatten(1).abs(), 0.995, dim=1)
    assert torch.allclose(out[0], wild[0].clamp(-s[0], s[0]) / s[0], atol=1e-5)
    assert torch.equal(dynamic_threshold(wild, limit=1.0), wild.clamp(-1, 1))  # what diffusers' default amounts to


def test_d4_thresholds_and_rescaling_lower_saturation():
    """Strong guidance of two ideal denoisers, of the one wanted clip and of all clips, sampled to the end."""
    data = torch.rand(6, 3, 2, 6, 6, dtype=F64) * 1.6 - 0.8
    noise, lams = Noise(range(4), dtype=F64), level_grid(CosineSchedule(-8, 8), 24)
    cond, uncond = finite_denoiser(data[:3]), finite_denoiser(data)

    def saturated(mode, rescale):
        guided = with_threshold(classifier_free(cond, uncond, 15.0, rescale), mode)
        *_, last = sample_ddim(guided, noise(data.shape[1:], "start"), lams)
        return float((last.x.abs() >= 0.999).double().mean()), float(
            (guided(data[:4], torch.full((4,), -2.0)).abs() >= 0.999).double().mean()
        )

    static = saturated("static", 0.0)
    assert static[1] > 0.1
    assert saturated("dynamic", 0.0)[1] < static[1] / 2
    assert saturated("static", 1.0)[1] < static[1] / 2


def test_threshold_names():
    denoise = constant(torch.full(SHAPE, 3.0))[0]
    z, lam = torch.zeros(SHAPE), torch.zeros(2)
    assert with_threshold(denoise, "static")(z, lam).max() == 1
    assert with_threshold(denoise, "none")(z, lam).max() == 3
    with pytest.raises(ValueError, match="unknown threshold"):
        with_threshold(denoise, "soft")


def test_both_branches_in_one_call_are_the_same():
    z, lam = torch.randn(3, 2, 4, 5, 5), torch.linspace(-2, 2, 3)

    def both(z, lam):
        told = torch.arange(len(z)).reshape(-1, 1, 1, 1, 1) < len(z) // 2
        return torch.where(told, z * 2 + lam.reshape(-1, 1, 1, 1, 1), z - 1)

    def told(z, lam):
        return z * 2 + lam.reshape(-1, 1, 1, 1, 1)

    def not_called(z, lam):
        raise AssertionError("one call was to be enough")

    apart = classifier_free(told, lambda z, lam: z - 1, 4.0, 0.5)
    assert torch.allclose(classifier_free(not_called, not_called, 4.0, 0.5, both=both)(z, lam), apart(z, lam))


@pytest.mark.parametrize("scale", [4.0, linear_frame_scale(4, 1.5, 3.0), lambda lam: 3 + lam])
def test_guidance_within_an_interval(scale):
    calls = []

    def branch(name, factor):
        return lambda z, lam: calls.append(name) or z * factor

    z = torch.randn(2, 2, 4, 5, 5)
    cond, uncond = branch("cond", 2.0), branch("uncond", 0.5)
    limited, everywhere = (classifier_free(cond, uncond, s) for s in (guidance_interval(scale, -1.0, 1.0), scale))
    for level, inside in ((-3.0, False), (-1.0, True), (0.5, True), (1.0, True), (1.1, False), (math.inf, False)):
        lam = torch.full((2,), level)
        calls.clear()
        out = limited(z, lam)
        assert calls == (["cond", "uncond"] if inside else ["cond"]), level
        assert torch.allclose(out, everywhere(z, lam) if inside else 2 * z)
    # levels of a batch may differ: each sample by its own
    mixed = limited(z, torch.tensor([0.0, 2.0]))
    assert torch.allclose(mixed[0], everywhere(z, torch.zeros(2))[0]) and torch.allclose(mixed[1], 2 * z[1])
