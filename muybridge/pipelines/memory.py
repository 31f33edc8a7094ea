"""Whether a video fits into this machine, before it is begun: limits that follow the machine, not a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import torch

from muybridge.errors import UserError

if TYPE_CHECKING:
    from muybridge.pipelines.settings import SamplingConfig

#: Bytes of a colour value of the finished video: float32 samples, their clamped copy and rounding, uint8.
VIDEO_BYTES = 4 + 4 + 1
#: Float32 activations of a network's widest level that are alive at once, in units of its input's positions times its
#: first width: skips, the residual block at work and its temporaries. Measured 8 to 11 for world-vdm and emoji-video at
#: 2 threads.
ALIVE = 12
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
    return int(video + frames * height * width * widths[0] * 4 * ALIVE)


def check_fits(pipeline: Any, settings: SamplingConfig) -> None:
    """Refuse a video that is larger than the memory that is free.

    Raises:
        UserError: says what it would take and what there is.
    """
    needed, there = needed_bytes(pipeline, settings), available_bytes(pipeline.device)
    if needed > there:
        raise UserError(
            f"{settings.num_frames} frames of {settings.height}x{settings.width} take about {needed / 1e9:.1f} GB, and "
            f"{there / 1e9:.1f} GB are free; sample fewer or smaller frames"
            + ("" if pipeline.in_windows else " and use `extend` for length")
        )
