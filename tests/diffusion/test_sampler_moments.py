"""Every sampler with every option against the papers' formulas on Gaussian data: the whole affine map, so mean and
covariance too.

The reference is written with alpha and sigma as the papers print them, on matrices; the samplers are ours, run on a
basis (affine.py).
"""

import math

import pytest
import torch

from muybridge.diffusion.oracle import gaussian_denoiser
from muybridge.diffusion.samplers import (
    langevin_step,
    sample_ancestral,
    sample_ddim,
    sample_distilled,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
)
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import level_grid
from tests.diffusion.affine import F64, Draws, affine, ar1, moments

FRAMES = 3
SHAPE = (1, FRAMES, 1, 1)
COVARIANCE = 0.7 * ar1(FRAMES, 0.6) + 0.1 * torch.diag(torch.arange(3.0, dtype=F64))
MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=F64)
GRID = torch.tensor([-5.0, -2.5, -0.5, 0.5, 2.0, 5.0], dtype=F64)
#: one grid for all frames, and one a frame: the second frame is ahead of the first, the third waits, then jumps
PER_FRAME = torch.stack([GRID, GRID + torch.linspace(0.5, 2, 6), torch.tensor([-3.0, -3.0, -3.0, 1.0, 1.5, 6.0])], 1)[
    :, None
]


class Reference:
    """z as a matrix [D, 1 + inputs]: column 0 is the mean, the others are what one unit of each input adds."""

    def __init__(self, draws):
        self.unit = Draws(SHAPE, draws)
        self.k = 0

    def start(self):
        return self.unit.block(0).flatten(1).T.clone()

    def noise(self):
        self.k += 1
        return self.unit.block(self.k).flatten(1).T

    @staticmethod
    def level(lam):
        lam = lam.expand(1, FRAMES).reshape(FRAMES, 1)
        return torch.sigmoid(lam).sqrt(), torch.sigmoid(-lam).sqrt()

    def denoise(self, z, lam):
        alpha, sigma = self.level(lam)
        gain = COVARIANCE * alpha.T @ torch.linalg.inv(alpha * COVARIANCE * alpha.T + torch.diag(sigma[:, 0] ** 2))
        offset = torch.zeros_like(z)
        offset[:, 0] = 1
        mean = MEAN[:, None] * offset
        return mean + gain @ (z - alpha * mean)


def ddim(lams, eta=0.0):
    """2010.02502 eqs. 12 and 16."""
    ref = Reference(5)
    z = ref.start()
    for t, s in zip(lams, lams[1:], strict=False):
        x, (at, st), (a, sg) = ref.denoise(z, t), ref.level(t), ref.level(s)
        std = eta * (sg**2 / st**2 * (1 - at**2 / a**2)).clamp(min=0).sqrt()
        z = a * x + (sg**2 - std**2).clamp(min=0).sqrt() * (z - at * x) / st + (std * ref.noise() if eta else 0)
    return z


def ancestral(lams, gamma=0.0, delta=0.0, passes=1):
    """2204.03458 eqs. 3 to 5 with q(z_s | z_t, x) by Bayes' rule, and 2201.09865 algorithm 1."""
    ref = Reference(40)
    z = ref.start()
    for t, s in zip(lams, lams[1:], strict=False):
        (at, st), (a, sg) = ref.level(t), ref.level(s)
        step, var = at / a, (st**2 - (at / a) ** 2 * sg**2).clamp(min=0)
        std = ((var * sg**2 / st**2) ** (1 - gamma) * var**gamma).sqrt()
        for turn in range(passes):
            x = ref.denoise(z, t)
            z = (step * sg**2 * z + a * var * x) / st**2 + std * ref.noise()
            if turn < passes - 1:
                z = step * z + var.sqrt() * ref.noise()
        if delta:
            eps = (z - a * ref.denoise(z, s)) / sg
            z = z - 0.5 * delta * sg * eps + delta**0.5 * sg * ref.noise()
    return z


def multistep(lams, stochastic=False):
    """2211.01095 algorithm 2 in its own half log-SNR; k-diffusion's SDE form with the midpoint rule."""
    ref = Reference(5)
    z, previous, h_before = ref.start(), None, None
    for i, (t, s) in enumerate(zip(lams, lams[1:], strict=False)):
        x, (at, st), (a, sg) = ref.denoise(z, t), ref.level(t), ref.level(s)
        h = (a / sg).log() - (at / st).log()
        direction = x
        if previous is not None and i < len(lams) - 2:
            r = h_before / h
            extrapolated = (1 + 1 / (2 * r)) * x - 1 / (2 * r) * previous
            direction = torch.where((h > 0) & (h_before > 0), extrapolated, x)
        if stochastic:
            drawn = sg * (1 - torch.exp(-2 * h)).sqrt() * ref.noise()
            z = sg / st * torch.exp(-h) * z + a * (1 - torch.exp(-2 * h)) * direction + drawn
        else:
            z = sg / st * z - a * (torch.exp(-h) - 1) * direction
        previous, h_before = x, h
    return z


def distilled(lams):
    """2210.03142: DDIM over two levels, back by one; a plain step at the end."""
    ref = Reference(5)
    z, n = ref.start(), len(lams) - 1
    for i in range(n):
        far = lams[min(i + 2, n)]
        x, (at, st), (a, sg) = ref.denoise(z, lams[i]), ref.level(lams[i]), ref.level(far)
        z = a * x + sg * (z - at * x) / st
        if i < n - 1:
            a1, s1 = ref.level(lams[i + 1])
            z = a1 / a * z + (s1**2 - (a1 / a) ** 2 * sg**2).clamp(min=0).sqrt() * ref.noise()
    return z


CASES = {
    "ddim": (sample_ddim, ddim, {}),
    "ddim eta .6": (sample_ddim, ddim, {"eta": 0.6}),
    "ddim eta 1": (sample_ddim, ddim, {"eta": 1.0}),
    "ancestral": (sample_ancestral, ancestral, {}),
    "ancestral gamma .3": (sample_ancestral, ancestral, {"gamma": 0.3}),
    "ancestral gamma 1": (sample_ancestral, ancestral, {"gamma": 1.0}),
    "corrector": (sample_ancestral, ancestral, {"corrector_step_size": 0.1}),
    "resampling": (sample_ancestral, ancestral, {"resample_steps": 3}),
    "all of them": (sample_ancestral, ancestral, {"gamma": 0.4, "corrector_step_size": 0.2, "resample_steps": 2}),
    "2M": (sample_dpmpp_2m, multistep, {}),
    "2M-SDE": (sample_dpmpp_2m_sde, lambda lams: multistep(lams, True), {}),
    "distilled": (sample_distilled, distilled, {}),
}
IN_THE_PAPER = {"corrector_step_size": "delta", "resample_steps": "passes"}


@pytest.mark.parametrize("lams", [GRID, PER_FRAME], ids=["one level", "a level a frame"])
@pytest.mark.parametrize("case", CASES)
def test_sampler_is_the_papers(case, lams):
    sampler, formula, options = CASES[case]
    expected = formula(lams, **{IN_THE_PAPER.get(k, k): v for k, v in options.items()})
    draws = Draws(SHAPE, expected.shape[1] // FRAMES - 1)
    *_, last = sampler(gaussian_denoiser(MEAN, COVARIANCE), draws.block(0), lams, draws, **options)
    mean, matrix = affine(last.z)
    torch.testing.assert_close(mean, expected[:, 0], atol=1e-10, rtol=0)
    torch.testing.assert_close(matrix, expected[:, 1:], atol=1e-10, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_a_sampler_ends_on_its_estimate_and_clean_frames_stay(case):
    sampler, _, options = CASES[case]
    lams = PER_FRAME.clone()
    lams[:, :, 1] = math.inf  # the second frame is known
    lams[-1] = math.inf
    draws = Draws(SHAPE, 40)
    start = draws.block(0)
    *_, last = sampler(gaussian_denoiser(MEAN, COVARIANCE), start, lams, draws, **options)
    assert torch.equal(last.z, last.x) or torch.allclose(last.z, last.x, atol=1e-14)
    torch.testing.assert_close(last.z[:, :, 1], start[:, :, 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("case", ["ancestral", "distilled", "ddim eta 1", "2M-SDE"])
def test_a_grid_that_stops_early_leaves_the_noise_of_its_last_level(case):
    """One datum: whatever the sampler, z at lam is N(alpha x, sigma^2), so also on a partial grid."""
    sampler, _, options = CASES[case]
    lams = CosineSchedule(-6, 20)(torch.linspace(1, 0.4, 5, dtype=F64))
    draws = Draws((1,), 8)
    point = gaussian_denoiser(torch.tensor([0.7], dtype=F64), torch.tensor([[1e-12]], dtype=F64))
    alpha, sigma = torch.sigmoid(lams[[0, -1]]).sqrt(), torch.sigmoid(-lams[[0, -1]]).sqrt()
    start = 0.7 * alpha[0] + sigma[0] * draws.block(0)
    *_, last = sampler(point, start, lams, draws, **options)
    mean, covariance = moments(last.z)
    assert float(mean) == pytest.approx(0.7 * float(alpha[1]), abs=1e-8)
    assert float(covariance) == pytest.approx(float(sigma[1]) ** 2, abs=1e-8)


def test_known_frames_as_a_noise_level_give_the_conditional_distribution():
    """Frames 0 and 1 clean throughout, the ideal denoiser told so: the others follow from them (spec 13)."""
    covariance = ar1(4)
    lams = level_grid(CosineSchedule(), 300)[:, None, None].repeat(1, 1, 4)
    lams[:, :, :2] = math.inf
    lams[-1] = math.inf
    draws = Draws((1, 4, 1, 1), 300)
    start = draws.block(0)
    start[:, :, :2] = 0  # what is known is 0: the rest is x^b | x^a = 0
    *_, last = sample_ancestral(gaussian_denoiser(torch.zeros(4, dtype=F64), covariance), start, lams, draws)
    _, got = moments(last.z)
    known, wanted = slice(0, 2), slice(2, 4)
    across = covariance[wanted, known]
    expected = covariance[wanted, wanted] - across @ torch.linalg.inv(covariance[known, known]) @ across.T
    torch.testing.assert_close(got[wanted, wanted], expected, rtol=0.05, atol=0)
    assert float(got[known].abs().max()) == 0


def spread(sampler, steps, **options):
    """The standard deviation of samples of N(0, .35^2), exactly."""
    denoise = gaussian_denoiser(torch.zeros(1, dtype=F64), torch.tensor([[0.35**2]], dtype=F64))
    draws = Draws((1,), steps)
    *_, last = sampler(denoise, draws.block(0), level_grid(CosineSchedule(), steps), draws, **options)
    return float(moments(last.z)[1].sqrt())


@pytest.mark.parametrize(
    "sampler,options", [(sample_ancestral, {}), (sample_ddim, {"eta": 1.0}), (sample_dpmpp_2m_sde, {})]
)
def test_f16_many_stochastic_steps_keep_the_spread(sampler, options):
    assert abs(spread(sampler, 1024, **options) / 0.35 - 1) < 0.015
    assert abs(spread(sampler, 1024, **options) / 0.35 - 1) < 0.5 * abs(spread(sampler, 128, **options) / 0.35 - 1)


@pytest.mark.parametrize("steps,expected", [(8, 0.2147), (32, 0.2984), (256, 0.3426)])
def test_distilled_sampler_under_disperses_as_measured(steps, expected):
    assert spread(sample_distilled, steps) == pytest.approx(expected, abs=5e-4)


def test_langevin_steps_draw_from_the_marginal():
    """Many small steps at one level reach N(0, alpha^2 S + sigma^2): the corrector has the right stationary law."""
    lam = torch.tensor(-1.0, dtype=F64)
    alpha2, sigma2, delta = float(torch.sigmoid(lam)), float(torch.sigmoid(-lam)), 0.01
    denoise = gaussian_denoiser(torch.zeros(FRAMES, dtype=F64), COVARIANCE)
    draws = Draws((FRAMES,), 1)
    z = langevin_step(denoise, draws.block(0), lam, draws.like(draws.block(0), "x"), delta)
    matrix = affine(z)[1]
    move, noise = matrix[:, :FRAMES], matrix[:, FRAMES:]
    covariance = torch.eye(FRAMES, dtype=F64)
    for _ in range(2000):
        covariance = move @ covariance @ move.T + noise @ noise.T
    torch.testing.assert_close(
        covariance, alpha2 * COVARIANCE + sigma2 * torch.eye(FRAMES, dtype=F64), rtol=0.01, atol=0.002
    )
