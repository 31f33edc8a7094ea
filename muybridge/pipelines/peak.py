"""What a run will take of memory, counted at its first network call, and what it took."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from muybridge.diffusion.guidance import BRANCH
from muybridge.nn.live_bytes import META, LiveBytes, fused_attention
from muybridge.pipelines.memory import VIDEO_BYTES, available_bytes

#: What kernels and allocators take on top of what tensors are: workspaces of convolutions and matrix products, holes
#: between what was freed. A choice; `python -m benchmarks.peaks` compares what is predicted with what is taken.
KERNELS = 1.1
#: The same where all that a call computes is kept for its gradient: many small tensors, and more holes between them.
KEPT = 1.25
#: Bytes that the first network call takes for good, whatever the network: kernels that are made for its shapes.
FIRST_CALL = 40_000_000


@dataclass(frozen=True)
class Peak:
    """A prediction.

    Attributes:
        there: bytes that are taken before the first network call: libraries, weights, what was read.
        network: of one network call, beside them.
        decoding: of the autoencoder's last step with the finished video, beside them.
        before: the peak up to now, of opening the model and what came before.
        free: what could be taken beside `there`.
    """

    there: int
    network: int
    decoding: int
    before: int
    free: int

    @property
    def total(self) -> int:
        """The peak of the whole process, or of the accelerator's memory."""
        return max(self.before, self.there + FIRST_CALL + int(KERNELS * max(self.network, self.decoding)))

    @property
    def fits(self) -> bool:
        return self.total - self.there <= self.free


class Planned(Exception):
    """Stops a run at its first network call, with what it would take."""

    def __init__(self, peak: Peak):
        super().__init__()
        self.peak = peak


def not_counted(why: str) -> None:
    """Where nobody takes the news.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(f"this network cannot be counted without being run: {why}")


def watch(pipeline: Any, told: Callable[[Peak], None], untold: Callable[[str], None] = not_counted) -> None:
    """Count what a pipeline's next run takes, at its first network call, and tell it then; `told` may raise `Planned`.

    Args:
        untold: told why, where a network asks for values and so cannot be counted; the run goes on.

    What is told to the network, its windows and its ControlNets are the run's own by then; the call is made without
    values (nn.live_bytes) and then for real.
    """
    settings_of, predict = pipeline.settings, pipeline.predict
    chosen: list[Any] = []

    def settings(**overrides: Any) -> Any:
        chosen.append(settings_of(**overrides))
        return chosen[-1]

    def first(z: Tensor, lam: Tensor, condition: Any, **how: Any) -> Tensor:
        del pipeline.predict, pipeline.settings
        where = z.device
        try:
            # guidance calls the network for one branch after the other, or for both at once
            there, calls = taken_bytes(where), 2 if BRANCH.get() else 1
            network = _network_bytes(predict, z, lam, condition, how, calls)
            decoding = _decoding_bytes(pipeline, chosen[-1]) if chosen else 0
        except (RuntimeError, NotImplementedError) as error:
            untold(str(error).partition("\n")[0])
        else:
            told(Peak(there, network, decoding, peak_bytes(where), available_bytes(where)))
        out: Tensor = predict(z, lam, condition, **how)
        return out

    pipeline.settings, pipeline.predict = settings, first


def _network_bytes(predict: Callable[..., Tensor], z: Tensor, lam: Tensor, condition: Any, how: Any, calls: int) -> int:
    """Of one call, or of as many as are kept at once for their gradient, where what is given guides the run."""
    kept = torch.is_grad_enabled() and z.requires_grad
    runs = calls if kept else 1
    with torch.set_grad_enabled(kept), fused_attention(), LiveBytes(mixing=True) as live:
        given = torch.empty_like(z, device=META).requires_grad_(kept)
        made = [predict(given, lam, condition, **how) for _ in range(runs)]
        if kept:
            torch.autograd.grad(torch.stack(made).sum(), given)
        del given, made
        held = live.now  # features that are used again: of each branch those of two steps
    # beside its input, the sampler keeps an estimate and a state or two, and guidance both branches
    peak = int(live.peak * (KEPT / KERNELS if kept else 1)) + held * (2 * calls - runs) // runs
    return peak + 4 * z.numel() * z.element_size()


def _decoding_bytes(pipeline: Any, settings: Any) -> int:
    """The finished video beside what its last frames take to be decoded."""
    shape = pipeline.sample_shape(settings)
    video = settings.num_frames * settings.height * settings.width * 3 * VIDEO_BYTES
    turns, pipeline.in_turn_on = pipeline.in_turn_on, None  # weights stay where they are
    try:
        with torch.no_grad(), fused_attention(), LiveBytes(mixing=True) as live:
            pipeline.to_pixels(torch.empty(1, *shape, device=META))
    finally:
        pipeline.in_turn_on = turns
    return max(live.peak, video)


def taken_bytes(device: torch.device) -> int:
    """Memory that this process holds now; on an accelerator, of its tensors there."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held at once; on an accelerator, of its tensors there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says holds for the process that started this one, too
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), "")
        if line:
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
