"""Features that change little from one sampling step to the next are computed in some steps and foreseen in others.

U-Nets: all but the first convolution and the last layer of the way up, which takes its skip (2312.00858, DeepCache).
Transformers: what the blocks between the first and the last add to their input (2406.01125). Foreseen from two:
2503.06923 (TaylorSeer).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from muybridge.diffusion.guidance import BRANCH
from muybridge.errors import UserError


class Reuse:
    """Which step and network call of a run is under way.

    Args:
        share: of the steps, 0 to below 1, that use what earlier ones computed; the first and the last never do.
        steps: how many steps the run has.
    """

    def __init__(self, share: float, steps: int):
        self.step, self.call = 0, COUNTED
        self._calls: Counter[tuple[str, ...]] = Counter()
        between = max(steps - 2, 0)
        again = min(round(share * steps), between)
        # evenly spread; the half begins the first gap with half a gap
        reached = [math.floor(i * again / between + 0.5) for i in range(between + 1)] if between else [0]
        self.steps = {i + 1 for i in range(between) if reached[i + 1] > reached[i]}

    @property
    def again(self) -> bool:
        """Whether this step uses what was computed before."""
        return self.step in self.steps

    def next_call(self, counted: bool) -> None:
        """To be called before the network is; a call is known by guidance's branch, and how many of the branch's came
        before in this step (windows, passes).

        Args:
            counted: without values (nn.live_bytes), and so none of the run's.
        """
        branch = BRANCH.get()
        self.call = COUNTED if counted else (branch, self._calls[branch])
        self._calls[branch] += not counted

    def next_step(self) -> None:
        self.step, self._calls = self.step + 1, Counter()


Call = tuple[tuple[str, ...], int]
#: Of calls that are none of the run's.
COUNTED: Call = ((), -1)


class _Computed(NamedTuple):
    step: int
    given: torch.Size
    value: Any


class _Kept:
    """Stands in for a module's call: computes, or goes on from what it computed in this call of earlier steps.

        v(s) = v(a) + (s - a) (v(a) - v(b)) / (2 (a - b)),   a and b the last steps that computed; v(a) if there is one

    A whole first difference (2503.06923) overshoots: half of one is nearer to the full run (docs/sampling.md).

    Args:
        module: whose place it takes.
        reuse: where the run stands.
        needed: its output reaches what is computed in every step; of others the shapes are enough.
        adds: what is kept is what the module adds to its first argument.
    """

    def __init__(self, module: nn.Module, reuse: Reuse, needed: bool, adds: bool):
        self.module, self.reuse, self.needed, self.adds = module, reuse, needed, adds
        self.computed: dict[Call, list[_Computed]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given: Tensor = args[0] if args else kwargs["hidden_states"]
        computed = [c for c in self.computed.get(self.reuse.call, []) if c.given == given.shape]
        if self.reuse.again and computed:
            value = self._foreseen(computed)
            return given + value if self.adds else value
        out = self.module._call_impl(*args, **kwargs)
        keep = (out - given) if self.adds else out
        keep = tree_map(_value_alone if self.needed else _shape_alone, keep)
        self.computed[self.reuse.call] = [*computed[-1:], _Computed(self.reuse.step, given.shape, keep)]
        return out

    def _foreseen(self, computed: Sequence[_Computed]) -> Any:
        last = computed[-1]
        if len(computed) == 1 or not self.needed:
            return last.value
        far = 0.5 * (self.reuse.step - last.step) / (last.step - computed[0].step)

        def on(value: Any, before: Any) -> Any:
            return torch.lerp(before, value, 1 + far) if isinstance(value, Tensor) else value

        return tree_map(on, last.value, computed[0].value)


def _value_alone(value: Any) -> Any:
    """A tensor without what it was computed from."""
    return value.detach() if isinstance(value, Tensor) else value


def _shape_alone(value: Any) -> Any:
    """A tensor of the same shape that takes no memory."""
    return value.new_zeros(()).expand(value.shape) if isinstance(value, Tensor) else value


@contextmanager
def reusing(network: nn.Module, share: float, steps: int) -> Iterator[Reuse]:
    """Within it a network uses features again in a share of the steps; `next_step` is to be called after each.

    Raises:
        UserError: a network of a build whose features are not known.
    """
    reuse = Reuse(share, steps)
    if not share:
        yield reuse
        return
    modules, adds = kept_modules(getattr(network, "image", network))

    def called(_: nn.Module, args: Any, kwargs: Any) -> None:
        reuse.next_call(any(isinstance(x, Tensor) and x.is_meta for x in (*args, *kwargs.values())))

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
        middle = [] if network.mid_block is None else [network.mid_block]
        return [
            *network.down_blocks, *middle, *network.up_blocks[:-1], *_all_but_the_last_layer(network.up_blocks[-1])
        ], False  # fmt: skip
    if all(hasattr(network, name) for name in ("down", "middle", "up")):
        return [
            *_stages(network.down), *network.middle, *_stages(network.up[:-1]), *network.up[-1]["stages"][:-1]
        ], False  # fmt: skip
    blocks = getattr(network, "blocks", None)
    if isinstance(blocks, nn.ModuleList) and len(blocks) > 2:
        return list(blocks[1:-1]), True
    raise UserError(f"reuse: the features of a {type(network).__name__} are not known here; leave it at 0")


def _all_but_the_last_layer(block: Any) -> list[nn.Module]:
    """Residual blocks, each followed by its attention if it has one, of a U-Net's block."""
    attentions = (getattr(block, "attentions", None) or [None] * len(block.resnets))[:-1]
    pairs = zip(block.resnets[:-1], attentions, strict=True)
    return [module for pair in pairs for module in pair if module is not None]


def _stages(levels: Sequence[Any]) -> list[nn.Module]:
    return [module for level in levels for module in (*level["stages"], *_resamplers([level]))]


def _resamplers(levels: Sequence[Any]) -> list[nn.Module]:
    return [level[name] for level in levels for name in ("downsample", "upsample") if name in level]
