"""Where networks run, and in which precision their weights are kept: named, resolved and checked in one place."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from muybridge.errors import Notice, UserError, nearest

if TYPE_CHECKING:
    import torch

#: What a network's weights are kept and computed in, by torch's names.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
AUTO = "auto"
#: What a run may take of memory: less for some time, as it comes, or more where that is faster.
LOW, BALANCED, FAST = MEMORY = ("low", "balanced", "fast")


def device_named(name: str = AUTO) -> torch.device:
    """A device of this machine; "auto" is its accelerator (cuda, mps, ...) where torch has one, else the CPU.

    Raises:
        UserError: an unknown device, or one that this machine or this build of torch does not have.
    """
    import torch

    if name == AUTO:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, mps, ...") from error
    if device.type == "cpu":
        return device
    own = torch.accelerator.current_accelerator(check_available=True)
    if own is None or own.type != device.type:
        raise UserError(
            f"device {name!r}: this machine, or this build of torch, has none; use {own.type if own else 'cpu'}, "
            f"or auto"
        )
    count = torch.accelerator.device_count()
    if device.index is not None and device.index >= count:
        raise UserError(f"device {name!r}: this machine has {count} of them, numbered from 0")
    return device


def dtype_named(precision: str, device: torch.device) -> torch.dtype:
    """The type of a precision's name on a device.

    Raises:
        UserError: an unknown precision, or one that the device cannot use.
    """
    import torch

    from muybridge.nn.layout import SLOW_BF16, emulates_bf16

    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; {nearest(precision, PRECISIONS)}")
    if device.type == "cpu" and precision == "fp16":
        raise UserError("precision fp16 is for GPUs; on a CPU bf16 takes as little memory")
    if device.type == "cpu" and precision == "bf16" and emulates_bf16():
        warnings.warn(SLOW_BF16, Notice, stacklevel=3)
    made: torch.dtype = getattr(torch, PRECISIONS[precision])
    return made
