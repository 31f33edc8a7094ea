"""T16 of spec 04, section 18 of spec 01: a rectified flow is a change of scale and clock of the same process."""

import math

import pytest
import torch

from muybridge.diffusion.losses import WEIGHTINGS, mse_per_sample, weight_on
from muybridge.diffusion.prediction import (
    INTO,
    flow_input,
    flow_scale,
    flow_to_x,
    lam_of_flow_time,
    shift_flow_time,
    target_of,
    to_x,
)
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import ddim_step, sample_ddim
from muybridge.diffusion.schedule import ShiftedSchedule, schedule_from_name, size_shift
from muybridge.errors import UserError
from muybridge.learning.latent_diffusion import NoiseTable

F64 = torch.float64
TIMES = torch.tensor([0.0, 0.05, 0.4, 0.8, 1.0], dtype=F64)


def drawn():
    x, eps = torch.randn(2, 5, 3, 2, 4, 4, dtype=F64)
    return x, eps


def test_the_flow_is_the_same_process_in_other_coordinates():
    x, eps = drawn()
    lam = schedule_from_name("flow")(TIMES)
    assert lam[0] == math.inf and lam[-1] == -math.inf
    assert torch.allclose(lam[1:-1], lam_of_flow_time(TIMES[1:-1]))
    z, t = diffuse(x, eps, lam), TIMES.reshape(-1, 1, 1, 1, 1)
    z_f = (1 - t) * x + t * eps
    assert torch.allclose(flow_input(z, lam), z_f, atol=1e-12)
    assert torch.allclose(z * flow_scale(t), z_f, atol=1e-12)
    u = target_of(x, eps, lam, "flow")
    assert torch.equal(u, eps - x)
    assert torch.allclose(to_x(u, z, lam, "flow"), x, atol=1e-12)  # at both ends too
    guess = torch.randn_like(x)
    assert torch.allclose(to_x(guess, z, lam, "flow"), flow_to_x(guess, z_f, TIMES), atol=1e-12)


@pytest.mark.parametrize("kind", INTO)
def test_conversions_go_round(kind):
    x, eps = drawn()
    lam = torch.tensor([-6.0, -1.0, 0.0, 2.0, 7.0], dtype=F64)
    z, output = diffuse(x, eps, lam), torch.randn_like(x)
    for other, into in INTO.items():
        there = into(output, z, lam, kind)
        assert torch.allclose(INTO[kind](there, z, lam, other), output, atol=1e-10)
        assert torch.allclose(to_x(there, z, lam, other), to_x(output, z, lam, kind), atol=1e-10)


def test_an_euler_step_of_the_flow_is_a_ddim_step():
    x, eps = drawn()
    t, s = 0.7, 0.45
    lams = lam_of_flow_time(torch.tensor([t, s], dtype=F64))
    z_f, u = (1 - t) * x + t * eps, torch.randn_like(x)
    z = z_f / flow_scale(torch.tensor(t, dtype=F64))
    stepped = ddim_step(z, to_x(u, z, lams[0], "flow"), lams[0], lams[1])
    assert torch.allclose(stepped * flow_scale(torch.tensor(s, dtype=F64)), z_f + (s - t) * u, atol=1e-12)


def test_the_whole_way_from_noise_lands_on_the_data():
    """An ideal network of one datum, from pure noise, where alpha is 0."""
    x, eps = drawn()
    lams = schedule_from_name("flow")(torch.linspace(1, 0, 5, dtype=F64))
    out = list(sample_ddim(lambda z, lam: x, eps, lams))[-1].z
    assert torch.allclose(out, x, atol=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_are_one_weight_on_x(weighting):
    x, eps = drawn()
    lam = torch.tensor([-9.0, -1.0, 0.0, 2.0, 9.0], dtype=F64)
    z, output = diffuse(x, eps, lam), torch.randn_like(x)
    error = mse_per_sample(output, target_of(x, eps, lam, "flow")) * weight_on("flow", lam, weighting)
    on_x = mse_per_sample(to_x(output, z, lam, "flow"), x) * weight_on("sample", lam, weighting)
    assert torch.allclose(error, on_x, rtol=1e-9)
    ends = torch.tensor([-math.inf, math.inf], dtype=F64)
    assert weighting in ("constant", "min_snr", "snr", "truncated_snr") or torch.equal(
        weight_on("flow", ends, "snr+1"), torch.ones(2, dtype=F64)
    )


def test_a_size_shift_is_a_shift_of_the_flows_time():
    assert size_shift(300, 300) == 0.0 and size_shift(300, 0) == 0.0  # a = 1 at the base size
    for positions in (75, 1200, 2700):
        a = math.sqrt(positions / 300)
        shifted = schedule_from_name("flow")(TIMES[1:-1]) - size_shift(positions, 300)
        assert torch.allclose(shifted, lam_of_flow_time(shift_flow_time(TIMES[1:-1], a)), atol=1e-12)
        assert torch.allclose(shifted, ShiftedSchedule(schedule_from_name("flow"), a * a)(TIMES[1:-1]), atol=1e-12)


def test_diffusers_tables_know_no_flow():
    with pytest.raises(UserError, match="prediction_type"):
        NoiseTable(prediction_type="flow")
