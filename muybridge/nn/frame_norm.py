"""Group normalisation with statistics over all frames of a video, as inflated networks on 5-D tensors have it.

Our networks normalise each frame alone, like the picture model they come from; the official codes of ControlVideo and
Tune-A-Video pool the statistics of residual blocks (and of the output) over the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.functional import group_norm


class PooledGroupNorm(nn.GroupNorm):
    """A group norm [B F, C, H, W] whose statistics run over (C / groups, F, H, W).

    Attributes:
        frames: F; 1 is the ordinary group norm.
    """

    frames = 1

    def forward(self, x: Tensor) -> Tensor:
        video = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        out = group_norm(video, self.num_groups, self.weight, self.bias, self.eps)
        return out.transpose(1, 2).flatten(0, 1)


def pooled_norms(network: nn.Module) -> list[PooledGroupNorm]:
    """The norms that would pool: residual blocks' and the output's, changed in place, with their own names and
    weights."""
    found = []
    for name, module in network.named_modules():
        if isinstance(module, nn.GroupNorm) and (".resnets." in name or name.endswith("conv_norm_out")):
            if not isinstance(module, PooledGroupNorm):
                module.__class__ = PooledGroupNorm
            found.append(module)
    return found  # type: ignore[return-value]


@contextmanager
def pooled_group_norms(network: nn.Module, pooled: bool, frames: int) -> Iterator[None]:
    """Pool statistics over `frames` within a block of code, if asked to.

    Calls with fewer frames than that (the clips of a hierarchical run) are refused by the shapes.
    """
    norms = pooled_norms(network) if pooled else []
    for norm in norms:
        norm.frames = frames
    try:
        yield
    finally:
        for norm in norms:
            norm.frames = 1
