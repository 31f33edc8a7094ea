"""Clips seen by a moving camera: any source's clips, each frame from a window that glides or narrows evenly over the clip."""

from __future__ import annotations

import numpy as np

from muybridge.data.clips import Clip, ClipSource
from muybridge.data.sources.camera import CameraConfig


class CameraSource:
    """The clips; the first frame is the source's own, untouched."""

    #: a clip with a camera motion has a first frame
    loops = False

    def __init__(self, config: CameraConfig, source: ClipSource):
        self.config, self.source = config, source

    def __len__(self) -> int:
        return len(self.source)

    def clip(self, index: int) -> Clip:
        clip = self.source.clip(index)
        return Clip(moved(clip.frames, self.config), clip.caption, clip.fps)

    def still(self, index: int, frame: int) -> Clip:
        clip = self.clip(index)
        return Clip(clip.frames[frame : frame + 1], clip.caption, clip.fps)

    def captions(self) -> list[str]:
        return self.source.captions()


def window_at(share: float, config: CameraConfig) -> tuple[float, float, float]:
    """Scale and shift of the camera's window after a share of the clip: pixel p of the view is at scale p + shift x side of the picture,
    counted from its middle."""
    signs = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    x, y = signs.get(config.move, (0, 0))
    scale = {"in": 1 - config.amount * share, "out": 1 + config.amount * share}.get(config.move, 1.0)
    return scale, x * config.amount * share, y * config.amount * share


def moved(frames: np.ndarray, config: CameraConfig) -> np.ndarray:
    """uint8 [F, H, W, 3] as the camera sees them."""
    import cv2

    if config.move == "none":
        return frames
    count, height, width = frames.shape[:3]
    out = []
    for k, frame in enumerate(frames):
        scale, x, y = window_at(k / max(1, count - 1), config)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = middle - scale * middle + np.array([x * width, y * height])
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        fill = tuple(int(v) for v in config.background)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out.append(cv2.warpAffine(frame, matrix, (width, height), flags=flags, borderValue=fill))
    out[0] = frames[0]
    return np.stack(out)
