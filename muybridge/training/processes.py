"""The processes of a run: how many there are, on which device, and what they agree on."""

from __future__ import annotations

import atexit
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import distributed, nn

from muybridge.errors import UserError
from muybridge.nn.devices import AUTO, device_named

T = TypeVar("T")

#: Devices whose float16 training accelerate can scale the loss for.
SCALES_LOSS = ("cuda", "xpu", "npu", "mlu", "musa")


def make_accelerator(precision: str = "fp32", device: str = AUTO, find_unused_parameters: bool = False) -> Accelerator:
    """accelerate's view of this process, checked.

    Args:
        precision: "fp32", "bf16" or "fp16" (autocast).
        device: "auto" takes the machine's accelerator (one a process), else its CPU; several processes take no other.
        find_unused_parameters: some steps leave layers without gradients, which DDP must be told.

    Raises:
        UserError: a device that is not there or cannot train in this precision, or a launcher that was asked for
            another number of processes than there are.
    """
    wanted = device_named(device)
    with _chosen(None if device == AUTO else wanted):
        if precision == "fp16" and wanted.type not in SCALES_LOSS:
            raise UserError(
                f"training.precision: fp16 needs a GPU, not {wanted.type}; use fp32 (or bf16 where it is built in)"
            )
        try:
            made = Accelerator(
                cpu=wanted.type == "cpu",  # accelerate lets several processes meet on CPUs only where it is told to
                mixed_precision={"fp32": "no"}.get(precision, precision),
                kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)],
            )
        except ValueError as error:  # accelerate keeps one state a process
            raise UserError(
                f"training.precision {precision}: this process already trains otherwise ({error})"
            ) from error
    if made.num_processes > 1:
        atexit.register(_leave)
    check_launcher(os.environ, made.num_processes)
    if device != AUTO and made.device.type != wanted.type:
        raise UserError(f"--device {device}: this process already trains on {made.device}; start another one")
    if made.num_processes > 1 and made.device.type == "mps":
        raise UserError("several processes cannot share an MPS device; start one, or set ACCELERATE_USE_CPU=true")
    if made.device.type == "cuda":
        # the same convolution kernels at every start, so that a resumed run goes on as it would have
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    return made


def _leave() -> None:
    """End the group's threads before the interpreter goes: torch aborts one that ends with any running.

    A network that was wrapped for the group holds it too, in circles that only the collector opens; the last hold is
    ours, since its end waits for the threads without Python's lock, which they may be waiting for.
    """
    if distributed.is_initialized():
        group = distributed.group.WORLD
        distributed.destroy_process_group()
        gc.collect()
        del group


@contextmanager
def _chosen(device: torch.device | None) -> Iterator[None]:
    """Tell accelerate which device to take; None leaves the choice to it."""
    name = "ACCELERATE_TORCH_DEVICE"
    if device is None:
        yield
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--device: with several processes each takes its own device; leave it at auto")
    before = os.environ.get(name)
    os.environ[name] = str(device)
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


def check_launcher(environment: Mapping[str, str], processes: int) -> None:
    """Refuse to train alone what a launcher was to train with several processes.

    Args:
        environment: of this process.
        processes: how many accelerate found.

    Raises:
        UserError: they differ.
    """
    torchrun = "python -m torch.distributed.run --nproc_per_node N -m muybridge.cli.main train RECIPE"
    wanted = int(environment.get("WORLD_SIZE", processes))
    if wanted != processes:
        raise UserError(
            f"the launcher set WORLD_SIZE={wanted}, but {processes} process{'es' * (processes > 1)} found each other; "
            f"start them with  {torchrun}"
        )
    # `accelerate launch --num_processes 2` of a machine without GPUs starts one process, and leaves this trace
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        raise UserError(
            f"accelerate launch was asked for several processes and started one (it does so where it finds no "
            f"GPU); use  {torchrun}"
        )


def described(accelerator: Accelerator, sharded: bool = False) -> str:
    """In words: how many processes, and where."""
    count = accelerator.num_processes
    how = " (fully sharded)" if sharded else ""
    return f"{count} process{'es' if count > 1 else ''}{how} on {accelerator.device.type}"


def from_main(value: T) -> T:
    """The main process' value, on every process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def main_decides(action: Callable[[], Any], main: bool) -> None:
    """Run something on the main process alone; where it fails, every process stops with its message.

    Raises:
        UserError: the main process'.
    """
    problem = ""
    if main:
        try:
            action()
        except UserError as error:
            problem = str(error)
    problem = from_main(problem)
    if problem:
        raise UserError(problem)


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Spread a network's weights over the processes, block by block (FSDP2), in place.

    A network names the classes of its blocks in `_no_split_modules`; their weights are gathered one block at a time.

    Raises:
        UserError: a network that names none.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kinds = set(getattr(model, "_no_split_modules", None) or ())
    blocks = [module for module in model.modules() if type(module).__name__ in kinds]
    if not blocks:
        raise UserError(f"training.sharded: a {type(model).__name__} does not say which of its blocks can be sharded")
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class StopRequest:
    """Within this block SIGINT or SIGTERM asks for a stop after the step; SIGINT once more stops at once.

    Attributes:
        asked: of this process.
        agreed: by all of them, once the step in which any was asked has said so.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None):
        self.say, self.asked, self.agreed = say, False, False

    def __enter__(self) -> StopRequest:
        import signal

        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only there may signals be caught
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        import signal

        # a launcher passes a terminal's SIGINT on as SIGTERM: that is the same request, not a second one
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self.say("finishing this step and saving a checkpoint; Ctrl-C once more to stop at once")
