"""F7 and guidance distillation."""

import pytest
import torch

from muybridge.diffusion.distillation import guidance_target, progressive_target, two_teacher_steps, v_target, x_target
from muybridge.diffusion.oracle import finite_denoiser, gaussian_denoiser
from muybridge.diffusion.prediction import to_v
from muybridge.diffusion.process import diffuse
from muybridge.diffusion.samplers import ddim_step
from muybridge.diffusion.schedule import CosineSchedule, phi_of

F64 = torch.float64


def setting(steps=8):
    i = torch.tensor([1, 3, 8])
    t = [(i - d).double() / steps for d in (0.0, 0.5, 1.0)]
    return [CosineSchedule()(v) for v in t]


@pytest.fixture
def teacher():
    cov = torch.tensor([[1.0, 0.5], [0.5, 0.7]], dtype=F64)
    return gaussian_denoiser(torch.tensor([0.2, -0.4], dtype=F64), cov)


def test_f7_targets_agree_and_the_student_lands_where_the_teacher_does(teacher):
    lam_t, lam_mid, lam_s = setting()
    z = diffuse(torch.randn(3, 2, dtype=F64), torch.randn(3, 2, dtype=F64), lam_t)
    z_s, _ = two_teacher_steps(teacher, z, lam_t, lam_mid, lam_s)
    x, v = x_target(z, z_s, lam_t, lam_s), v_target(z, z_s, lam_t, lam_s)
    assert torch.allclose(to_v(x, z, lam_t, "sample"), v, atol=1e-8)
    assert torch.allclose(ddim_step(z, x, lam_t, lam_s), z_s, atol=1e-10)
    angle = (phi_of(lam_t) - phi_of(lam_s))[:, None]
    assert torch.allclose(angle.cos() * z - angle.sin() * v, z_s, atol=1e-10)


def test_f7_an_exact_teacher_gives_the_data():
    point = torch.randn(1, 2, dtype=F64)
    lam_t, lam_mid, lam_s = setting()
    z = diffuse(point.expand(3, 2), torch.randn(3, 2, dtype=F64), lam_t)
    is_last = torch.tensor([True, False, False])
    target = progressive_target(finite_denoiser(point), z, lam_t, lam_mid, lam_s, is_last)
    assert torch.allclose(target, point.expand(3, 2), atol=1e-8)


def test_the_last_interval_takes_the_teachers_own_estimate(teacher):
    lam_t, lam_mid, lam_s = setting()
    z = diffuse(torch.randn(3, 2, dtype=F64), torch.randn(3, 2, dtype=F64), lam_t)
    _, x_second = two_teacher_steps(teacher, z, lam_t, lam_mid, lam_s)
    target = progressive_target(teacher, z, lam_t, lam_mid, lam_s, torch.tensor([True, False, False]))
    assert torch.equal(target[0], x_second[0]) and not torch.equal(target[1], x_second[1])


def test_guidance_target(teacher):
    z, lam = torch.randn(3, 2, dtype=F64), torch.tensor([0.0, 1.0, -1.0], dtype=F64)
    uncond = finite_denoiser(torch.zeros(1, 2, dtype=F64))
    g = torch.tensor([1.0, 0.0, 3.0], dtype=F64)
    got = guidance_target(teacher, uncond, z, lam, g)
    assert torch.allclose(got[0], teacher(z, lam)[0]) and torch.allclose(got[1], uncond(z, lam)[1])
    assert torch.allclose(got[2], 3 * teacher(z, lam)[2])
