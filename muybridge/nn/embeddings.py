"""Sinusoidal embeddings of the noise level, in the two layouts the field uses, and the MLP on top."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from muybridge.diffusion.schedule import phi_of


def sinusoid(position: Tensor, dim: int, layout: str = "sin_cos") -> Tensor:
    """Sinusoidal embedding [..., dim] of positions [...].

    Args:
        layout: "sin_cos" uses frequencies 10000^{-k/(half-1)} and [sin, cos] (DDPM, VDM); "cos_sin" uses
            10000^{-k/half} and [cos, sin] (DiT, Stable Diffusion).
    """
    half = dim // 2
    steps = half - 1 if layout == "sin_cos" else half
    k = torch.arange(half, dtype=torch.float32, device=position.device)
    angles = position.float()[..., None] * torch.exp(-math.log(10000.0) * k / max(steps, 1))
    parts = (angles.sin(), angles.cos()) if layout == "sin_cos" else (angles.cos(), angles.sin())
    return nn.functional.pad(torch.cat(parts, -1), (0, dim % 2))


def log_snr_position(lam: Tensor) -> Tensor:
    """The "inv_cos" squashing of a log-SNR to [0, 1000]: 1000 φ(clip(λ, -20, 20)) / (π / 2). Source: 2202.00512's
    code."""
    return phi_of(lam.float().clamp(-20, 20)) * (1000 / (math.pi / 2))


def init_after_silu(layer: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """Weights that give outputs of standard deviation `gain` for silu of unit normal inputs (E[silu(n)²] = 0.356).

    torch's default would shrink what the embedding says about threefold a layer: captions begin as whispers.
    """
    nn.init.normal_(layer.weight, std=gain * (0.356 * layer.in_features) ** -0.5)
    nn.init.zeros_(layer.bias)
    return layer


class NoiseLevelEmbedding(nn.Module):
    """log-SNR -> sinusoid -> MLP of `layers` linear layers of one width.

    Args:
        dim: width of the sinusoid.
        width: width of the MLP and of the output.
        layout: see `sinusoid`.
    """

    def __init__(self, dim: int, width: int, layers: int = 2, layout: str = "sin_cos"):
        super().__init__()
        self.dim, self.layout = dim, layout
        self.first = nn.Linear(dim, width)
        self.rest = nn.ModuleList(init_after_silu(nn.Linear(width, width)) for _ in range(layers - 1))

    def forward(self, lam: Tensor, condition: Tensor | None = None) -> Tensor:
        """lam [...] (+ condition [..., width], added after the first layer) -> [..., width]."""
        h = self.first(
            sinusoid(log_snr_position(lam), self.dim, self.layout).to(self.first.weight.dtype)
        )  # [..., width]
        if condition is not None:
            h = h + condition
        for layer in self.rest:
            h = layer(nn.functional.silu(h))
        return h


#: Channels of a guidance scale's sinusoid, and what the scale is multiplied by before it: as diffusers' pipelines of
#: distilled models have it.
GUIDANCE_CHANNELS, GUIDANCE_UNIT = 256, 1000.0


def guidance_wave(scale: Tensor) -> Tensor:
    """A guidance scale g [B] as a sinusoid [B, 256]. Source: 2210.03142 appendix, of w = g - 1 there."""
    return sinusoid(GUIDANCE_UNIT * (scale.float() - 1), GUIDANCE_CHANNELS)


class GuidanceEmbedding(nn.Module):
    """What a network that was distilled from a guided one is told of the scale; zero at the start.

    Args:
        width: of the embedding that it is added to.
    """

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Linear(GUIDANCE_CHANNELS, width, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, scale: Tensor) -> Tensor:
        """scale g [B] -> [B, width]."""
        out: Tensor = self.proj(guidance_wave(scale).to(self.proj.weight.dtype))
        return out


class FrameEmbedding(nn.Module):
    """A frame's index, and how each caption takes it: e_f (1 + W c + b) for index embeddings e_f and captions c.

    "Moving left" means one thing in the first frame and another in the last. The product makes that a feature from the
    first step on; a sum of the two would leave it to the layers behind.

    Args:
        dim: width of the sinusoid of the index.
        width: of the captions and of the output.
    """

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.dim = dim
        self.index, self.gate = nn.Linear(dim, width), nn.Linear(width, width)

    def forward(self, num_frames: int, independent: Tensor, caption: Tensor | None) -> Tensor:
        """
        Args:
            independent: bool [1 or B, F], frames without a place in time (independent images), whose embedding is zero.
            caption: [B, 1 or F, width].

        Returns:
            [1 or B, F, width].
        """
        index = sinusoid(torch.arange(num_frames, device=independent.device), self.dim)  # [F, dim]
        embedded = self.index(index.to(self.index.weight.dtype))
        embedded = embedded * (1 + (self.gate.bias if caption is None else self.gate(caption)))
        return embedded.masked_fill(independent[..., None], 0.0)
