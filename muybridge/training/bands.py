"""Held-out errors by log-SNR band: where a network is good, and where it does not listen."""

from __future__ import annotations

import math

from torch import Tensor

#: Upper ends of the bands.
BANDS = {"noise": -4.0, "layout": 0.0, "shape": 4.0, "detail": math.inf}


def by_band(error: Tensor, log_snr: Tensor) -> dict[str, float]:
    """Mean error, whole and by band; error and log_snr [N]. Bands without samples are left out."""
    values = {"validation_error": float(error.mean())}
    low = -math.inf
    for name, high in BANDS.items():
        inside = (log_snr >= low) & (log_snr < high)
        if bool(inside.any()):
            values[f"validation_error_{name}"] = float(error[inside].mean())
        low = high
    return values
