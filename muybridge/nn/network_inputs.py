"""What every video network checks of its inputs, in one place."""

from __future__ import annotations

import torch
from torch import Tensor

from muybridge.errors import UserError


def check_condition(condition: Tensor | None, channels: int, network: str) -> None:
    """Refuse condition channels that the network has no weights for, and a condition that is missing.

    Raises:
        UserError: another number of channels than `channels`.
    """
    given = 0 if condition is None else condition.shape[1]
    if given != channels:
        raise UserError(f"this {network} takes {channels} condition channels, got {given}")


def level_for_embedding(log_snr: Tensor, sample: Tensor) -> Tensor:
    """A log-SNR [B] or [B, F] from anywhere as [B, 1 or F], float32 on the data's device: what embeddings of the level
    take."""
    lam = log_snr.to(device=sample.device, dtype=torch.float32)
    return lam[:, None] if lam.ndim == 1 else lam


def one_per_patch(values: Tensor, patch: int, dim: int, what: str) -> Tensor:
    """One value for each `patch` frames along `dim`, of which there is one token.

    Raises:
        UserError: values that differ within a patch: the token could follow only one of them.
    """
    if patch == 1:
        return values
    groups = values.movedim(dim, -1).unflatten(-1, (-1, patch))  # [..., F / patch, patch]
    if not bool((groups == groups[..., :1]).all()):
        raise UserError(f"{what} must be the same within each patch of {patch} frames, which are one token")
    return groups[..., 0].movedim(-1, dim)
