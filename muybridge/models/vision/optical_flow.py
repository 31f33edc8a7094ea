"""Optical flow between pictures by OpenCV, and pictures warped by a flow."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from muybridge.models.vision.names import FLOWS

if TYPE_CHECKING:
    from torch import Tensor  # curation needs flow alone, and torch takes seconds to import

#: One estimator a thread: it keeps its pyramids inside.
_own = threading.local()


def _dis() -> Any:
    if not hasattr(_own, "dis"):
        cv2: Any = importlib.import_module("cv2")  # its type stubs lag behind it
        _own.dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _own.dis


def flow_between(first: np.ndarray, second: np.ndarray, method: str = "dis") -> np.ndarray:
    """Grey uint8 [H, W] twice -> [H, W, 2], x right and y down, pixels: first(p) = second(p + flow).

    Raises:
        ValueError: an unknown method.
    """
    if method == "dis":
        return np.asarray(_dis().calc(first, second, None))
    if method == "farneback":
        cv2: Any = importlib.import_module("cv2")
        return np.asarray(cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0))
    raise ValueError(f"unknown flow method {method!r}; expected one of {', '.join(FLOWS)}")


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """What a picture [B, C, H, W] shows at p + flow(p), flow [B, 2, H, W] in pixels, x right and y down; edges repeat."""
    import torch
    from torch.nn.functional import grid_sample

    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device, dtype=flow.dtype),
        torch.arange(width, device=flow.device, dtype=flow.dtype),
        indexing="ij",
    )
    place = torch.stack(
        [2 * (x + flow[:, 0]) / max(1, width - 1) - 1, 2 * (y + flow[:, 1]) / max(1, height - 1) - 1], -1
    )
    return grid_sample(picture, place, mode="bilinear", padding_mode="border", align_corners=True)
