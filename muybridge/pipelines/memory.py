"""Whether a video fits into this machine, before it is begun: limits that follow the machine, not a constant; and what
is done where memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import psutil
import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.nn.compiling import compile_blocks
from muybridge.nn.devices import BALANCED, FAST, LOW
from muybridge.nn.pieces import in_pieces

if TYPE_CHECKING:
    from muybridge.pipelines.settings import SamplingConfig

#: Bytes of a colour value of the finished video: float32 samples, their clamped copy and rounding, uint8.
VIDEO_BYTES = 4 + 4 + 1
#: Float32 activations of a network's widest level that are alive at once, in units of its input's positions times its
#: first width: skips, the residual block at work and its temporaries. Measured 8 to 11 for world-vdm and emoji-video at
#: 2 threads.
ALIVE = 12
#: The same with memory low, where layers go in pieces and guidance's branches one after the other. A choice: counted
#: on Stable Diffusion's widths (nn.live_bytes), a further frame of 64x64 latents takes 52 of these units with joined
#: branches, 26 with one, 13 with memory low. The rough estimate shall refuse nothing that fits; what a run takes is
#: counted at its first network call.
ALIVE_LOW = 6
#: Frames that windows let through a network at once, about: it does not grow with the video.
IN_WINDOWS = 16


def available_bytes(device: torch.device) -> int:
    """Memory that a run could take now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def needed_bytes(pipeline: Any, settings: SamplingConfig) -> int:
    """A rough estimate of what sampling one video takes beside the weights."""
    video = settings.num_frames * settings.height * settings.width * 3 * VIDEO_BYTES
    _, _, height, width = pipeline.sample_shape(settings)
    frames = min(settings.num_frames, IN_WINDOWS) if pipeline.in_windows else settings.num_frames
    config: Any = getattr(pipeline.network, "image", pipeline.network).config
    widths = config.get("block_out_channels") or [config.get("base_channels") or config.get("width") or 64]
    alive = ALIVE_LOW if pipeline.memory == LOW else ALIVE
    return int(video + frames * height * width * widths[0] * 4 * alive)


def check_fits(pipeline: Any, settings: SamplingConfig) -> None:
    """Refuse a video that is larger than the memory that is free.

    Raises:
        UserError: says what it would take and what there is.
    """
    needed, there = needed_bytes(pipeline, settings), available_bytes(pipeline.device)
    if needed > there:
        raise UserError(
            f"{settings.num_frames} frames of {settings.height}x{settings.width} take about {needed / 1e9:.1f} GB, and "
            f"{there / 1e9:.1f} GB are free; "
            + ("" if pipeline.memory == LOW else f"take --memory {LOW}, or ")
            + "sample fewer or smaller frames,"
            + ("" if pipeline.in_windows else " and use `extend` for length")
        )


#: What each choice of `--memory` does, in words.
WHAT_IT_DOES = {
    LOW: "autoencoder in tiles and few frames at a time, layers in pieces, guidance's branches one after the other, "
    "and on an accelerator the network and the autoencoder there in turn",
    BALANCED: "autoencoder a few frames at a time",
    FAST: "autoencoder many frames at a time, weights in float32 throughout",
}


class WithinMemory:
    """A pipeline that takes less memory, or more where that is faster; its blocks compiled or not.

    Attributes:
        memory: a key of WHAT_IT_DOES.
        in_turn_on: the accelerator where its network and its autoencoder are in turn; None where both stay where they
            are.
    """

    network: Any
    memory = BALANCED
    in_turn_on: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        own: torch.device = self.in_turn_on or super().device  # type: ignore[misc]
        return own

    def run_with(self, memory: str, compiled: bool, device: torch.device) -> Self:
        """How much memory it may take, and whether its network's blocks are compiled, at their first call.

        Args:
            device: where it runs.

        Raises:
            UserError: a network without blocks to compile.
        """
        self.memory = memory
        space = getattr(self, "space", None)
        if space is not None and hasattr(space, "use_memory"):
            space.use_memory(memory)
        if memory == LOW:
            self.joins_branches = False
            in_pieces(self.network)
            if device.type != "cpu" and hasattr(space, "to"):
                self._take_turns(space, device)
        if compiled:
            compile_blocks(self.network)
        return self

    def _take_turns(self, space: Any, device: torch.device) -> None:
        self.in_turn_on = device
        space.to(torch.device("cpu"))

        def come(network: nn.Module, _: Any) -> None:
            network.to(device)

        self.network.register_forward_pre_hook(come)

    @contextmanager
    def autoencoder_alone(self, space: Any) -> Iterator[None]:
        """Where the two take turns, the autoencoder's."""
        if self.in_turn_on is None:
            yield
            return
        self.network.to("cpu")
        space.to(self.in_turn_on)
        try:
            yield
        finally:
            space.to(torch.device("cpu"))
