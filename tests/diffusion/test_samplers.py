"""F4-F6, F15-F17, the ideal denoisers, and section 17's dispersion."""

import math

import pytest
import torch

from muybridge.diffusion.noise import Noise, derive_seed, generator_for
from muybridge.diffusion.oracle import finite_denoiser, gaussian_denoiser
from muybridge.diffusion.prediction import to_eps, to_v
from muybridge.diffusion.process import diffuse, posterior_log_variance, posterior_mean
from muybridge.diffusion.samplers import (
    SAMPLERS,
    ddim_step,
    invert_ddim,
    sample_ddim,
    sample_dpmpp_2m,
    sample_unipc,
    sampler_named,
)
from muybridge.diffusion.schedule import CosineSchedule, UniformSchedule, alpha_of, expand, phi_of, sigma_of
from muybridge.diffusion.tables import level_grid

F64 = torch.float64


def last(generator):
    return list(generator)[-1].z


def levels(*values):
    return [torch.tensor(v, dtype=F64) for v in values]


@pytest.mark.parametrize("lam_t,lam_s", [(-9.0, -4.0), (-1.0, 2.0), (3.0, 11.0)])
def test_f4_ddim_forms_are_equal(lam_t, lam_s):
    t, s = levels(lam_t, lam_s)
    x, eps = torch.randn(2, 3, 4, 5, 5, dtype=F64), torch.randn(2, 3, 4, 5, 5, dtype=F64)
    z = diffuse(x, eps, t)
    plain = alpha_of(s) * x + sigma_of(s) * eps
    in_eps = alpha_of(s) / alpha_of(t) * z - sigma_of(s) * torch.expm1(0.5 * (s - t)) * to_eps(x, z, t, "sample")
    angle = phi_of(t) - phi_of(s)
    rotated = angle.cos() * z - angle.sin() * to_v(x, z, t, "sample")
    for z_s in (ddim_step(z, x, t, s), in_eps, rotated):
        assert torch.allclose(z_s, plain, atol=1e-10)


def test_ddim_at_both_ends():
    x, z = torch.randn(1, 4, dtype=F64), torch.randn(1, 4, dtype=F64)
    minus, plus, mid = levels(-math.inf, math.inf, 0.0)
    assert torch.allclose(ddim_step(z, x, mid, plus), x)
    assert torch.allclose(ddim_step(z, x, minus, mid), alpha_of(mid) * x + sigma_of(mid) * z)
    assert torch.allclose(ddim_step(z, x, minus, plus), x)


def test_f5_eta_one_is_ancestral():
    t, s = levels(-1.5, 0.5)
    x, z, n = (torch.randn(2, 3, 4, dtype=F64) for _ in range(3))
    ancestral = posterior_mean(z, x, t, s) + torch.exp(0.5 * posterior_log_variance(t, s)) * n
    assert torch.allclose(ddim_step(z, x, t, s, 1.0, n), ancestral, atol=1e-12)


def test_eta_needs_noise():
    with pytest.raises(ValueError, match="needs noise"):
        ddim_step(torch.zeros(1, 1), torch.zeros(1, 1), *levels(-1.0, 1.0), eta=0.5)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_f6_single_point_data_is_reached_exactly(name):
    point = torch.randn(1, 3, 2, 4, 4, dtype=F64)
    denoise = finite_denoiser(point)
    lams = level_grid(CosineSchedule(), 1)
    z = alpha_of(lams[0]) * point + sigma_of(lams[0]) * torch.randn_like(point)
    reached = last(SAMPLERS[name](denoise, z, lams))
    assert torch.allclose(
        reached,
        alpha_of(lams[1]) * point + sigma_of(lams[1]) * ((z - alpha_of(lams[0]) * point) / sigma_of(lams[0])),
        atol=1e-10,
    )


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_lands_on_the_data(name):
    data = torch.randn(5, 2, 3, 4, 4, dtype=F64)
    noise = Noise(range(12), dtype=F64)
    lams = level_grid(CosineSchedule(), 60)
    z = last(SAMPLERS[name](finite_denoiser(data), noise((2, 3, 4, 4), "start"), lams, noise))
    distance = torch.cdist(z.flatten(1), data.flatten(1)).min(1).values
    assert float(distance.max()) < 2e-3
    assert len(torch.cdist(z.flatten(1), data.flatten(1)).argmin(1).unique()) > 1  # not always the same one


def test_samplers_start_from_zero_snr():
    data = torch.randn(3, 2, 2, dtype=F64)
    lams = torch.cat([torch.tensor([-math.inf], dtype=F64), torch.linspace(-4, 9, 12, dtype=F64)])
    for name, sampler in SAMPLERS.items():
        noise = Noise(range(4), dtype=F64)
        z = last(sampler(finite_denoiser(data), noise((2, 2), "start"), lams, noise))
        assert torch.isfinite(z).all(), name


def gaussian_error(sampler, steps, mean=0.3, std=0.35, low=-4.0, high=4.0):
    """Error against the exact probability-flow solution for scalar Gaussian data."""
    denoise = gaussian_denoiser(torch.tensor([mean], dtype=F64), torch.tensor([[std**2]], dtype=F64))
    lams = level_grid(UniformSchedule(low, high), steps)
    z = torch.linspace(-2, 2, 41, dtype=F64)[:, None]

    def moments(lam):
        return alpha_of(lam) * mean, (alpha_of(lam) ** 2 * std**2 + sigma_of(lam) ** 2).sqrt()

    (m0, s0), (m1, s1) = moments(lams[0]), moments(lams[-1])
    exact = m1 + s1 * (z - m0) / s0
    return float((last(sampler(denoise, z, lams)) - exact).abs().max())


def test_f17_measured_orders():
    ddim = gaussian_error(sample_ddim, 80) / gaussian_error(sample_ddim, 160)
    second = gaussian_error(sample_dpmpp_2m, 80) / gaussian_error(sample_dpmpp_2m, 160)
    third = gaussian_error(sample_unipc, 40) / gaussian_error(sample_unipc, 80)
    assert 1.9 <= ddim <= 2.1
    assert 3 <= second <= 5
    assert third > 3.5, third


def test_2m_with_first_order_last_step_survives_the_long_ends_of_the_cosine_grid():
    def error(sampler):
        denoise = gaussian_denoiser(torch.tensor([0.3], dtype=F64), torch.tensor([[0.35**2]], dtype=F64))
        z = torch.linspace(-2, 2, 41, dtype=F64)[:, None]
        return float((last(sampler(denoise, z, level_grid(CosineSchedule(), 16))) - (0.3 + 0.35 * z)).abs().max())

    assert error(sample_dpmpp_2m) < error(sample_ddim) / 3


def test_f15_inversion_and_back():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=F64)
    denoise = gaussian_denoiser(torch.zeros(6, dtype=F64), root @ root.T / 6 + 0.1 * torch.eye(6, dtype=F64))
    lams = CosineSchedule()(torch.linspace(0.02, 0.98, 11, dtype=F64))
    x = torch.randn(4, 6, dtype=F64)

    def round_trip(iterations):
        z = last(invert_ddim(denoise, x, lams, iterations))
        return float((last(sample_ddim(denoise, z, lams.flip(0))) - x).abs().max())

    assert round_trip(20) < 1e-8
    assert round_trip(20) < round_trip(5) < round_trip(1)


def test_one_inversion_iteration_is_the_first_fixed_point_iterate():
    """It agrees with diffusers' inverse step, which takes x at the source level, to first order in the step's
    length."""
    denoise = gaussian_denoiser(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64) * 0.5)
    x = torch.randn(2, 3, dtype=F64)

    def both(length):
        s, t = levels(1.0 + length, 1.0)
        got = last(invert_ddim(denoise, x, torch.stack([s, t]), 1))
        v = to_v(denoise(x, t.expand(2)), x, t, "sample")
        angle = phi_of(t) - phi_of(s)
        assert torch.allclose(got, (x + angle.sin() * v) / angle.cos(), atol=1e-12)
        theirs = angle.cos() * x + angle.sin() * to_v(denoise(x, s.expand(2)), x, s, "sample")
        return float((got - theirs).abs().max()), float((got - x).abs().max())

    (long, moved), (short, _) = both(0.2), both(0.1)
    assert 3.5 < long / short < 4.5 and long < 0.2 * moved  # the difference is of second order


def test_inversion_needs_an_iteration_and_takes_infinite_ends():
    denoise = gaussian_denoiser(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64) * 0.5)
    x = torch.randn(2, 3, dtype=F64)
    with pytest.raises(ValueError, match="at least 1 iteration"):
        list(invert_ddim(denoise, x, torch.tensor([2.0, 1.0, 0.0]), 0))
    lams = torch.tensor([math.inf, 4.0, 1.0, -1.0, -4.0], dtype=F64)
    z = last(invert_ddim(denoise, x, lams, 40))
    assert torch.allclose(last(sample_ddim(denoise, z, lams.flip(0))), x, atol=1e-8)


def test_sampler_yields_every_step_and_names_are_checked():
    data = torch.randn(2, 3, dtype=F64)
    states = list(sample_ddim(finite_denoiser(data), torch.randn(1, 3, dtype=F64), level_grid(CosineSchedule(), 5)))
    assert [s.step for s in states] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="unknown sampler"):
        sampler_named("dimm")


def test_noise_belongs_to_the_sample():
    alone, together = Noise([7]), Noise([3, 7, 9])
    assert torch.equal(alone((2, 3), "start")[0], together((2, 3), "start")[1])
    assert not torch.equal(alone((2, 3), "start"), alone((2, 3), "sampler"))
    assert not torch.equal(alone((2, 3), "sampler", 0), alone((2, 3), "sampler", 1))
    state = torch.random.get_rng_state()
    alone((2, 3), "start")
    assert torch.equal(state, torch.random.get_rng_state())  # global state untouched
    with pytest.raises(ValueError, match="one seed a sample"):
        alone.like(torch.zeros(2, 3), "start")  # would have given both samples one noise
    assert len({derive_seed(1, "a", *at) for at in ((2, 3), (3, 2), (23,), (5,), ())}) == 5
    assert torch.equal(torch.rand(2, generator=generator_for(1, "x")), torch.rand(2, generator=generator_for(1, "x")))


def test_gaussian_oracle_is_the_conditional_mean():
    cov = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=F64)
    mean = torch.tensor([0.5, -1.0], dtype=F64)
    lam = torch.tensor([0.4], dtype=F64)
    a, s = alpha_of(lam), sigma_of(lam)
    z = torch.randn(1, 2, dtype=F64)
    exact = mean + a * cov @ torch.linalg.inv(a**2 * cov + s**2 * torch.eye(2, dtype=F64)) @ (z[0] - a * mean)
    assert torch.allclose(gaussian_denoiser(mean, cov)(z, lam)[0], exact, atol=1e-12)
    assert expand(lam, z).shape == (1, 1)


@pytest.mark.parametrize("oracle", ["gaussian", "finite"])
def test_oracles_take_a_level_a_frame(oracle):
    """By brute force over a fine one-dimensional prior is out of reach: the finite set is summed, the Gaussian
    inverted."""
    lam = torch.tensor([[0.4, -2.0, 3.0]], dtype=F64)
    a, s = alpha_of(lam)[0], sigma_of(lam)[0]
    z = torch.randn(1, 1, 3, 1, 1, dtype=F64)
    if oracle == "gaussian":
        root = torch.randn(3, 3, dtype=F64)
        mean, cov = torch.randn(3, dtype=F64), root @ root.T
        joint = a[:, None] * cov * a + torch.diag(s**2)
        exact = mean + cov * a @ torch.linalg.inv(joint) @ (z.flatten() - a * mean)
        denoise = gaussian_denoiser(mean, cov)
    else:
        data = torch.randn(4, 3, dtype=F64)
        likelihood = torch.exp(-(((z.flatten() - a * data) / s) ** 2).sum(1) / 2)
        exact = (likelihood[:, None] * data).sum(0) / likelihood.sum()
        denoise = finite_denoiser(data)
    assert torch.allclose(denoise(z, lam).flatten(), exact, atol=1e-12)
    same = lam[:, :1].expand(1, 3)
    assert torch.allclose(denoise(z, same), denoise(z, same[:, 0]), atol=1e-12)
