"""Features that change little from one sampling step to the next are computed in some steps and used again in others.

U-Nets: all but the first layer of the way down and the last of the way up (2312.00858, DeepCache). Transformers: what
the blocks between the first and the last add to their input (2406.01125).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from muybridge.errors import UserError


class Reuse:
    """Which step and network call of a run is under way.

    Args:
        share: of the steps, 0 to below 1, that use what an earlier one computed; the first never does.
    """

    def __init__(self, share: float):
        self.share, self.step, self.call = share, 0, -1

    @property
    def again(self) -> bool:
        """Whether this step uses what was computed before: evenly spread, as many as the share says."""
        return int((self.step + 1) * self.share + 1e-9) > int(self.step * self.share + 1e-9)

    def next_step(self) -> None:
        self.step, self.call = self.step + 1, -1


class _Kept:
    """Stands in for a module's call: computes, or gives what it computed in this call of an earlier step.

    Args:
        needed: its output reaches what is computed in every step; of others the shapes are enough.
        adds: what is kept is what the module adds to its first argument.
    """

    def __init__(self, module: nn.Module, reuse: Reuse, needed: bool, adds: bool):
        self.module, self.reuse, self.needed, self.adds = module, reuse, needed, adds
        self.kept: dict[int, tuple[torch.Size, Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given: Tensor = args[0] if args else kwargs["hidden_states"]
        found: tuple[Any, Any] = self.kept.get(self.reuse.call, (None, None))
        shape, value = found
        if self.reuse.again and shape == given.shape:
            return given + value if self.adds else value
        out = self.module._call_impl(*args, **kwargs)
        keep = (out - given) if self.adds else out
        self.kept[self.reuse.call] = given.shape, keep if self.needed else tree_map(_shape_alone, keep)
        return out


def _shape_alone(value: Any) -> Any:
    """A tensor of the same shape that takes no memory."""
    return value.new_zeros(()).expand(value.shape) if isinstance(value, Tensor) else value


@contextmanager
def reusing(network: nn.Module, share: float) -> Iterator[Reuse]:
    """Within it a network uses features again; `next_step` is to be called after each step.

    Raises:
        UserError: a network of a build whose features are not known.
    """
    reuse = Reuse(share)
    if not share:
        yield reuse
        return
    modules, adds = kept_modules(getattr(network, "image", network))

    def called(_: nn.Module, args: Any, kwargs: Any) -> None:
        # a call without values (nn.live_bytes) is none of the run's: below -1, where no step looks for features
        counted = any(isinstance(x, Tensor) and x.is_meta for x in (*args, *kwargs.values()))
        reuse.call = min(reuse.call, -1) - 1 if counted else max(reuse.call, -1) + 1

    counting = network.register_forward_pre_hook(called, with_kwargs=True)
    for i, module in enumerate(modules):
        module._compiled_call_impl = _Kept(module, reuse, adds or i == len(modules) - 1, adds)  # type: ignore[assignment]
    try:
        yield reuse
    finally:
        counting.remove()
        for module in modules:
            module._compiled_call_impl = None


def kept_modules(network: Any) -> tuple[list[nn.Module], bool]:
    """The modules whose output is used again, in the order in which they run, and whether they add to their input.

    Raises:
        UserError: a network of another build.
    """
    if hasattr(network, "down_blocks") and hasattr(network, "up_blocks"):
        first, last = network.down_blocks[0], network.up_blocks[-1]
        middle = [] if network.mid_block is None else [network.mid_block]
        return [
            *_layers(first, slice(1, None)), *(first.downsamplers or []), *network.down_blocks[1:],
            *middle, *network.up_blocks[:-1], *_layers(last, slice(0, -1)),
        ], False  # fmt: skip
    if all(hasattr(network, name) for name in ("down", "middle", "up")):
        down = [*network.down[0]["stages"][1:], *_resamplers(network.down[:1]), *_stages(network.down[1:])]
        return [*down, *network.middle, *_stages(network.up[:-1]), *network.up[-1]["stages"][:-1]], False
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.ModuleList) and len(blocks) > 2:
        return list(blocks[1:-1]), True
    raise UserError(f"reuse: the features of a {type(network).__name__} are not known here; leave it at 0")


def _layers(block: Any, which: slice) -> list[nn.Module]:
    """Residual blocks and their attentions of a U-Net's block, in order."""
    attentions = list(getattr(block, "attentions", None) or [None] * len(block.resnets))
    pairs = list(zip(block.resnets, attentions, strict=True))[which]
    return [module for pair in pairs for module in pair if module is not None]


def _stages(levels: Sequence[Any]) -> list[nn.Module]:
    return [module for level in levels for module in (*level["stages"], *_resamplers([level]))]


def _resamplers(levels: Sequence[Any]) -> list[nn.Module]:
    return [level[name] for level in levels for name in ("downsample", "upsample") if name in level]
