"""The frame between two frames: linear, along optical flow, or learned (RIFE's network, at any width).

An interpolator is a function (a, b) -> mid on pictures [B, 3, H, W] in [0, 1]. The learned one is the IFNet of RIFE
(2011.06294, its HDv3 form), so that a user's own RIFE weights load; the bundled one is a narrow one trained here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from muybridge.errors import UserError, nearest
from muybridge.files import ZOO
from muybridge.models.vision.optical_flow import flow_between, warp
from muybridge.models.weights.opening import open_part

Interpolator = Callable[[Tensor, Tensor], Tensor]
SCALES = (4, 2, 1)
#: Sides are filled up to multiples of this: two halvings in a block at the coarsest scale.
MULTIPLE = 32


def linear(a: Tensor, b: Tensor) -> Tensor:
    """The mean of both."""
    return (a + b) / 2


def along_flow(a: Tensor, b: Tensor) -> Tensor:
    """Both warped half way along the optical flow between them (DIS, each way), and averaged."""
    greys = [(p.mean(1).clamp(0, 1) * 255).round().byte().cpu().numpy() for p in (a, b)]
    there = np.stack([flow_between(x, y) for x, y in zip(*greys, strict=True)])
    back = np.stack([flow_between(y, x) for x, y in zip(*greys, strict=True)])
    # content at p + flow/2 of the middle frame came from p of the first; near enough, the middle looks back by flow/2
    half = [torch.from_numpy(f).permute(0, 3, 1, 2).to(a) / 2 for f in (back, there)]
    return (warp(a, half[0]) + warp(b, half[1])) / 2


def _convolution(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.PReLU(outside))


class FlowBlock(nn.Module):
    """Refines two flows and a fusion mask at one scale."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.conv0 = nn.Sequential(_convolution(inside, width // 2, 2), _convolution(width // 2, width, 2))
        for i in range(4):
            setattr(self, f"convblock{i}", nn.Sequential(_convolution(width, width), _convolution(width, width)))
        self.conv1, self.conv2 = self._up(width, 4), self._up(width, 1)

    @staticmethod
    def _up(width: int, outside: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.PReLU(width // 2),
            nn.ConvTranspose2d(width // 2, outside, 4, 2, 1),
        )

    def forward(self, x: Tensor, flow: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """x [B, 7, H, W], flow [B, 4, H, W] in pixels -> changes of the flow and of the mask."""

        def resized(t: Tensor, factor: float) -> Tensor:
            return interpolate(t, scale_factor=factor, mode="bilinear", align_corners=False) if factor != 1 else t

        h = self.conv0(torch.cat([resized(x, 1 / scale), resized(flow, 1 / scale) / scale], 1))
        for i in range(4):
            h = h + getattr(self, f"convblock{i}")(h)
        return resized(self.conv1(h), scale) * scale, resized(self.conv2(h), scale)


class FrameInterpolation(ModelMixin, ConfigMixin):
    """RIFE's IFNet: flows from the middle frame to both, refined at three scales, and how to blend what they bring.

    The result is the same with both frames exchanged, because every block sees both orders.

    Args:
        width: channels of a block; 90 is RIFE's.
    """

    @register_to_config
    def __init__(self, width: int = 90):
        super().__init__()
        self.block0, self.block1, self.block2 = (FlowBlock(7 + 4, width) for _ in SCALES)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The frame between two, [B, 3, H, W] in [0, 1] each."""
        height, width = a.shape[-2:]
        fill = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        a, b = (pad(p, fill, mode="replicate") if any(fill) else p for p in (a, b))
        flow = a.new_zeros(len(a), 4, *a.shape[2:])
        mask, seen_a, seen_b = flow[:, :1], a, b
        for block, scale in zip((self.block0, self.block1, self.block2), SCALES, strict=True):
            f0, m0 = block(torch.cat([seen_a, seen_b, mask], 1), flow, scale)
            turned = torch.cat([flow[:, 2:], flow[:, :2]], 1)
            f1, m1 = block(torch.cat([seen_b, seen_a, -mask], 1), turned, scale)
            flow = flow + (f0 + torch.cat([f1[:, 2:], f1[:, :2]], 1)) / 2
            mask = mask + (m0 - m1) / 2
            seen_a, seen_b = warp(a, flow[:, :2]), warp(b, flow[:, 2:])
        share = torch.sigmoid(mask)
        return (share * seen_a + (1 - share) * seen_b)[..., :height, :width]


def load_rife(file: Path, allow_pickle: bool = False) -> FrameInterpolation:
    """RIFE's weights (HDv3 `flownet`), as safetensors, or as its published pickle behind an explicit flag.

    Raises:
        UserError: a pickle without the flag, or weights that do not fit.
    """
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(file)
    elif not allow_pickle:
        raise UserError(
            f"{file}: pickled weights can run code when opened and are refused; convert them to safetensors"
        )
    else:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    bare = {k.removeprefix("module."): v for k, v in weights.items()}
    kept = {k: v for k, v in bare.items() if not k.startswith("block_tea.")}  # the teacher is used in training alone
    first = kept.get("block0.conv0.1.0.weight")
    if first is None:
        raise UserError(f"{file}: not RIFE's IFNet (HDv3); its first tensor is {next(iter(bare), 'none')}")
    made = FrameInterpolation(width=len(first))
    try:
        made.load_state_dict(kept)
    except RuntimeError as error:
        raise UserError(f"{file}: these weights do not fit RIFE's IFNet (HDv3): {str(error)[:300]}") from error
    return made.eval().requires_grad_(False)


@lru_cache(maxsize=2)
def _learned(folder: Path) -> FrameInterpolation:
    return open_part(FrameInterpolation, folder).requires_grad_(False)


#: The bundled interpolator, inside the package.
BUNDLED = ZOO / "interpolator"


def by_network(network: FrameInterpolation) -> Interpolator:
    """A network as an interpolator, on the device of the frames that it is given."""

    @torch.no_grad()
    def between(a: Tensor, b: Tensor) -> Tensor:
        middle: Tensor = network.to(a.device)(a, b)
        return middle

    return between


def interpolator_named(name: str) -> Interpolator:
    """ "linear", "flow", "learned" (the bundled one), or a file of RIFE's weights.

    Raises:
        UserError: none of these.
    """
    known: dict[str, Interpolator] = {"linear": linear, "flow": along_flow}
    if name in known:
        return known[name]
    if name == "learned":
        return by_network(_learned(BUNDLED))
    if Path(name).is_file():
        return by_network(load_rife(Path(name)))
    raise UserError(f"unknown interpolator {name!r}; {nearest(name, [*known, 'learned'])}; or a file of RIFE's weights")
