"""F10, F11, F12 and the schedules' own laws."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from muybridge.diffusion.schedule import (
    CosineSchedule,
    LinearSchedule,
    ShiftedSchedule,
    UniformSchedule,
    alpha_of,
    expand,
    log1mexp,
    logit_normal_times,
    per_sample,
    phi_of,
    ratio_alpha,
    ratio_sigma,
    schedule_from_name,
    sigma_of,
    stratified_times,
)
from muybridge.diffusion.tables import (
    DiscreteSchedule,
    karras_levels,
    lam_of_betas,
    level_grid,
    make_betas,
    rescale_zero_terminal,
    spaced_indices,
)

F64 = torch.float64
EXTREME = torch.tensor([-math.inf, -40.0, -3.0, 0.0, 5.0, 40.0, math.inf], dtype=F64)


def test_primitives_are_finite_and_on_the_circle_everywhere():
    alpha, sigma = alpha_of(EXTREME), sigma_of(EXTREME)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(7, dtype=F64), atol=1e-15)
    assert alpha[0] == 0 and sigma[-1] == 0
    assert torch.allclose(phi_of(EXTREME).cos(), alpha, atol=1e-15)


def test_ratios():
    s, t = torch.tensor(2.0, dtype=F64), torch.tensor(-3.0, dtype=F64)
    assert torch.allclose(ratio_alpha(s, t), alpha_of(s) / alpha_of(t), atol=1e-14)
    assert torch.allclose(ratio_sigma(s, t), sigma_of(s) / sigma_of(t), atol=1e-14)
    assert torch.equal(ratio_sigma(EXTREME, EXTREME), torch.ones(7, dtype=F64))  # 0 / 0 at the clean end
    assert torch.equal(ratio_alpha(EXTREME, EXTREME), torch.ones(7, dtype=F64))


def test_log1mexp_at_both_ends():
    a = torch.tensor([1e-12, 0.1, math.log(2), 5.0, 50.0], dtype=F64)
    exact = [math.log(-math.expm1(-x)) for x in a.tolist()]
    assert torch.allclose(log1mexp(a), torch.tensor(exact, dtype=F64), rtol=1e-12)


def test_f12_cosine_values():
    lam = CosineSchedule()(torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))
    expected = torch.tensor([20, 1.762618, 0, -1.762618, -20], dtype=F64)
    assert torch.allclose(lam, expected, atol=1e-6)


def test_f12_tables():
    ddpm = lam_of_betas(make_betas("linear"))
    assert abs(float(ddpm[0]) - 9.210240) < 1e-6 and abs(float(ddpm[-1]) + 10.117674) < 1e-6
    stable = lam_of_betas(make_betas("scaled_linear", 0.00085, 0.012))
    assert abs(float(stable[0]) - 7.069424) < 1e-6 and abs(float(stable[-1]) + 5.364048) < 1e-6
    assert abs(float(alpha_of(stable[-1])) - 0.0682649) < 1e-6
    assert abs(float(stable[-1].exp()) - 0.00468192) < 1e-8


def test_f12_linear_log_snr():
    lam = LinearSchedule()(torch.tensor([0.0, 1.0]))
    assert abs(float(lam[0]) - 9.2103) < 1e-4 and abs(float(lam[1]) + 10.00005) < 1e-4
    assert abs(float(LinearSchedule()(torch.tensor(0.2))) - 0.709) < 1e-3  # imagen-pytorch's default augmentation


def test_f10_cogvideox_shift_is_a_log_snr_shift():
    alpha_bar = torch.linspace(0.999, 0.005, 50, dtype=F64)
    k = 3.0
    shifted = alpha_bar / (k + (1 - k) * alpha_bar)
    lam = torch.log(alpha_bar / (1 - alpha_bar))
    assert torch.allclose(torch.log(shifted / (1 - shifted)), lam - math.log(k), atol=1e-12)
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    plain, moved = DiscreteSchedule.from_config(config), DiscreteSchedule.from_config(config | {"snr_shift_scale": 3.0})
    assert torch.allclose(moved.table, plain.table - math.log(3), atol=1e-12)


def test_f11_zero_terminal_snr():
    lam = lam_of_betas(make_betas("scaled_linear", 0.00085, 0.012))
    zero = rescale_zero_terminal(lam)
    assert float(zero[-1]) == -math.inf
    assert abs(float(alpha_of(zero[0]) - alpha_of(lam[0]))) < 1e-15
    assert bool((zero[1:] < zero[:-1]).all())


@pytest.mark.parametrize(
    "spacing,zero",
    [("leading", False), ("linspace", False), ("trailing", False), ("linspace", True), ("trailing", True)],
)
@pytest.mark.parametrize("steps", [10, 30, 50])
def test_levels_equal_diffusers(spacing, steps, zero):
    config = dict(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    theirs = DDIMScheduler(**config, prediction_type="v_prediction", clip_sample=False)
    theirs.set_timesteps(steps)
    indices = spaced_indices(steps, 1000, spacing, 1)
    assert indices.tolist() == theirs.timesteps.tolist()
    ours = DiscreteSchedule.from_config(theirs.config)
    alpha_bar = torch.sigmoid(ours.table)
    assert torch.allclose(alpha_bar, theirs.alphas_cumprod.double(), atol=1e-6)
    assert float(ours.inference_levels(steps)[-1]) == float(ours.table[0])


def test_table_index_round_trip():
    schedule = DiscreteSchedule(lam_of_betas(make_betas("linear")))
    index = torch.tensor([0.0, 0.25, 17.5, 500.0, 998.75, 999.0])
    assert torch.allclose(schedule.index_of(schedule.lam_of_index(index)), index.double(), atol=1e-6)
    zero = DiscreteSchedule(rescale_zero_terminal(schedule.table))
    assert zero.index_of(torch.tensor([-math.inf])).tolist() == [999.0]
    assert torch.isfinite(zero.index_of(torch.tensor([-80.0, 30.0]))).all()
    assert zero.index_of(torch.zeros(2, 3)).shape == (2, 3)  # a level a frame


def test_shift():
    base = CosineSchedule()
    t = torch.tensor([0.1, 0.9], dtype=F64)
    assert torch.allclose(ShiftedSchedule(base, 4.0)(t), base(t) - math.log(4), atol=1e-12)
    assert torch.allclose(schedule_from_name("cosine", {"kappa": 4.0})(t), base(t) - math.log(4), atol=1e-12)


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="known|unknown"):
        schedule_from_name("cosinus")
    with pytest.raises(ValueError, match="unknown timestep spacing"):
        spaced_indices(10, 1000, "even")
    with pytest.raises(ValueError, match="in 1"):
        spaced_indices(0, 1000, "leading")
    with pytest.raises(ValueError, match="take fewer steps"):
        spaced_indices(1000, 1000, "leading", 1)


def test_level_grid_is_strictly_cleaner():
    for schedule in (CosineSchedule(), UniformSchedule(), DiscreteSchedule(lam_of_betas(make_betas("linear")))):
        lams = level_grid(schedule, 10)
        assert len(lams) == 11 and bool((lams[1:] > lams[:-1]).all())


def test_t18_strata_cover_the_interval_however_split():
    u = torch.rand(8, dtype=F64)
    whole = stratified_times(u)
    halves = torch.cat([stratified_times(u[:4], 0, 8), stratified_times(u[4:], 4, 8)])
    assert torch.equal(whole, halves)
    assert (whole * 8).floor().tolist() == list(range(8))


def test_logit_normal_is_centred():
    t = logit_normal_times(torch.randn(100_000))
    assert abs(float(t.median()) - 0.5) < 0.01 and float(t.min()) > 0 and float(t.max()) < 1


def test_expand_shapes_and_refuses():
    z = torch.zeros(2, 3, 4, 5, 5)
    assert per_sample(torch.tensor(1.0), z).shape == (2,) and per_sample(torch.ones(1, 4), z).shape == (2, 4)
    assert expand(torch.ones(2), z).shape == (2, 1, 1, 1, 1)
    assert expand(torch.ones(2, 4), z).shape == (2, 1, 4, 1, 1)
    with pytest.raises(ValueError, match="log-SNR"):
        expand(torch.ones(2, 3, 4), z)


def test_karras_grid_equals_diffusers():
    theirs = EulerDiscreteScheduler(
        use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0, timestep_spacing="linspace"
    )
    theirs.set_timesteps(25)
    ours = karras_levels(25, 0.002, 700.0)
    assert torch.allclose(torch.exp(-0.5 * ours), theirs.sigmas.double(), rtol=1e-5)
