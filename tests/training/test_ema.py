"""The average of the weights, against its formula, and the bands of held-out errors at their edges."""

import math

import pytest
import torch

from muybridge.training.bands import BANDS, by_band
from muybridge.training.ema import EMA


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_follows_its_formula(decay):
    """theta_bar <- d theta_bar + (1 - d) theta with d_k = min(d, (1 + k) / (10 + k)), at an early and a late step."""
    parameter = torch.nn.Parameter(torch.randn(4))
    ema, expected = EMA([("w", parameter)], decay), parameter.detach().double().clone()
    for step in (0, 1, 2, 50, 5000):
        with torch.no_grad():
            parameter.add_(torch.randn(4))
        ema.update(step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * parameter.detach().double()
        torch.testing.assert_close(ema.shadow["w"].double(), expected, atol=1e-6, rtol=0)
    live = parameter.detach().clone()
    with ema.applied():
        torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(parameter.detach(), live)


def test_a_level_belongs_to_one_band():
    lam = torch.tensor([-math.inf, -4.1, -4.0, -0.1, 0.0, 3.9, 4.0, 20.0])
    error = torch.arange(8.0)
    found = by_band(error, lam)
    assert found == {
        "validation_error": 3.5,
        "validation_error_noise": 0.5,
        "validation_error_layout": 2.5,
        "validation_error_shape": 4.5,
        "validation_error_detail": 6.5,
    }
    assert list(BANDS) == ["noise", "layout", "shape", "detail"]
    assert set(by_band(error[:2], lam[:2])) == {"validation_error", "validation_error_noise"}
