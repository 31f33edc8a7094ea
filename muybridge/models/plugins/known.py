"""Frames, or parts of them, that a network is told: input channels of the picture network for them and their mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muybridge.models.weights.widened import widen_inputs
from muybridge.nn.temporal import Call, TemporalPlugin


class KnownFrames(TemporalPlugin):
    """Base of plug-ins that widen the picture network's first convolution by known data and a mask.

        u = [ z ; m * known ; m ],   m = 1 where a pixel is given

    The new columns are zero at the start, so the output is then that of the network without them; the whole first
    convolution trains. Known data under m = 0 are not seen. Sources: 2209.14792 section 3.2; 2401.12945 section 3.3.

    Attributes:
        known_channels: C of known data; 0 for a network that is told none.
    """

    known_channels = 0

    @property
    def takes_known_frames(self) -> bool:  # type: ignore[override]
        return self.known_channels > 0

    def prepare_image(self, image: nn.Module) -> None:
        if self.known_channels:
            told: Any = image
            widen_inputs(told, self.known_channels + 1)

    def inputs(self, z: Tensor, call: Call) -> Tensor:
        """z [B, C, F, H, W] -> [B, C + known_channels + 1, F, H, W].

        Conditions "known" [B, C, F, H, W] and "known_mask" [B, 1, F, H or 1, W or 1]; without them nothing is known.
        """
        if not self.known_channels:
            return z
        batch, _, *size = z.shape
        known, mask = call.conditions.get("known"), call.conditions.get("known_mask")
        if known is None or mask is None:
            return torch.cat([z, z.new_zeros(batch, self.known_channels + 1, *size)], 1)
        mask = mask.to(z).expand(-1, -1, *size)
        # where, not a product: what is hidden may hold anything
        return torch.cat([z, torch.where(mask > 0, known.to(z), 0.0) * mask, mask], 1)

    def trains_inputs(self, name: str) -> bool:
        """Whether a parameter is one of the widened convolution."""
        return self.known_channels > 0 and name.startswith("image.conv_in.")
