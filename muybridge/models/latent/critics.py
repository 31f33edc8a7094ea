"""Patch critics of autoencoders: is this piece of a picture, or of a video, real?

Source: 1611.07004 (patches), 2012.09841 (in autoencoders); 2304.08818 section 3.1.2: 3D convolutions for the temporal
decoder.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.func import functional_call


class PatchCritic(nn.Module):
    """A map of scores, each of one patch in space and time; higher is more real.

    Args:
        channels: of the input.
        width: channels of the first layer; doubled at each of the `layers` halvings of space.
        frames: the kernel's extent in time, odd. With 1 no kernel looks at another frame, but the group norms'
            statistics still run over all frames of a clip: give single frames to judge each by itself.
    """

    def __init__(self, channels: int = 3, width: int = 32, layers: int = 3, frames: int = 1):
        super().__init__()
        if frames % 2 == 0:
            raise ValueError(f"frames of a critic's kernel must be odd, got {frames}")
        time = frames // 2
        parts: list[nn.Module] = []
        inside = channels
        for layer in range(layers):
            outside = width * min(2**layer, 4)
            parts.append(nn.Conv3d(inside, outside, (frames, 4, 4), (1, 2, 2), (time, 1, 1)))
            if layer:
                parts.append(nn.GroupNorm(math.gcd(8, outside), outside))
            parts.append(nn.LeakyReLU(0.2))
            inside = outside
        parts.append(nn.Conv3d(inside, 1, (frames, 3, 3), 1, (time, 1, 1)))
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, F, H, W] -> [B, 1, F, H', W']."""
        out: Tensor = self.net(x)
        return out


def critic_losses(critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge losses (for the maker, for the critic), each [B]; gradients of the one never reach the other.

    One backward pass over their sum trains both: the maker sees the critic's weights as constants, the critic the fake.
    """
    constants = {name: value.detach() for name, value in critic.named_parameters()}
    scores = functional_call(critic, constants, (fake,))
    maker = -scores.flatten(1).mean(1)
    on_real, on_fake = critic(real), critic(fake.detach())
    judge = (1 - on_real).relu().flatten(1).mean(1) + (1 + on_fake).relu().flatten(1).mean(1)
    return maker, judge / 2
