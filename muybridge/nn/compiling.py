"""Compiling a network block by block: what is repeated is compiled once for each shape, hooks and processors stay
Python's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from muybridge.errors import UserError

#: Shapes of one block's code that are compiled before torch gives up and runs it as it is: a U-Net of four levels has
#: its blocks at several widths, sizes and numbers of inputs.
SHAPES = 64


def compile_blocks(network: nn.Module) -> int:
    """Compile the forward of every block that a network names in `_no_split_modules`; what lies in a compiled one is
    compiled with it.

    Returns:
        How many blocks there are.

    Raises:
        UserError: the network names none.
    """
    names = set(getattr(network, "_no_split_modules", None) or ())
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, SHAPES)
    found = _outermost(network, names)
    if not found:
        raise UserError(f"--compile: a {type(network).__name__} names no blocks to compile; leave it out")
    for block in found:
        block.forward = torch.compile(block.forward)  # type: ignore[method-assign]
    return len(found)


def _outermost(module: nn.Module, names: set[str]) -> list[nn.Module]:
    """The modules of these classes that lie in no other of them, and hold nothing that hooks look into."""
    out: list[nn.Module] = []
    for child in module.children():
        kinds = {kind.__name__ for kind in type(child).__mro__}
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in list(child.modules())[1:])
        out += [child] if kinds & names and not hooked else _outermost(child, names)
    return out
