"""Per-sample errors and their weightings.

For one denoiser, eps_mse = SNR x_mse, v_mse = (1 + SNR) x_mse = eps_mse / α², and u_mse = (α + σ)² v_mse of the flow
u = ε - x, whose weights are those on v_mse over (α + σ)². A weighting is a weight w_x on x_mse;
`weight_on` gives the equal weight on the error a network is trained with:

    name            on x_mse          on eps_mse           on v_mse
    constant        1                 1 / SNR              1 / (1 + SNR)
    snr             SNR               1                    SNR / (1 + SNR)
    snr+1           1 + SNR           1 + 1 / SNR          1
    truncated_snr   max(SNR, 1)       max(1, 1 / SNR)      max(SNR, 1) / (1 + SNR)
    min_snr         min(SNR, γ)       min(1, γ / SNR)      min(SNR, γ) / (1 + SNR)

Source: 2202.00512 section 4 (SNR, SNR + 1, truncated SNR), 2303.09556 (min-SNR).
"""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.diffusion.prediction import check_prediction_type
from muybridge.diffusion.schedule import alpha_of, sigma_of

WEIGHTINGS = ("constant", "snr", "snr+1", "truncated_snr", "min_snr")


def mse_per_sample(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all but the batch axis, [B]; in float32, or in float64 where the data are."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(wide) - target.to(wide)).square().flatten(1).mean(1)


def weight_on(kind: str, lam: Tensor, weighting: str, gamma: float = 5.0) -> Tensor:
    """The weight on the error of a network of prediction type `kind`, of lam's shape; the table is above.

    Written without SNR / SNR quotients, so it is finite wherever its limit is (zero SNR included).
    """
    check_prediction_type(kind)
    snr = lam.exp()
    inverse = torch.exp(-lam)
    v_share = torch.sigmoid(-lam)  # 1 / (1 + SNR)
    table = {
        "constant": (torch.ones_like(lam), inverse, v_share),
        "snr": (snr, torch.ones_like(lam), torch.sigmoid(lam)),
        "snr+1": (1 + snr, 1 + inverse, torch.ones_like(lam)),
        "truncated_snr": (snr.clamp(min=1), inverse.clamp(min=1), torch.maximum(torch.sigmoid(lam), v_share)),
        "min_snr": (
            snr.clamp(max=gamma),
            (gamma * inverse).clamp(max=1),
            torch.minimum(torch.sigmoid(lam), gamma * v_share),
        ),
    }
    if weighting not in table:
        raise ValueError(f"unknown loss weighting {weighting!r}; expected one of {', '.join(WEIGHTINGS)}")
    on_x, on_eps, on_v = table[weighting]
    on_flow = on_v / (alpha_of(lam) + sigma_of(lam)) ** 2
    return {"sample": on_x, "epsilon": on_eps, "v_prediction": on_v, "flow": on_flow}[kind]
