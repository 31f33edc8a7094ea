"""How much a clip moves, and what moves: optical flow at 2 frames a second, camera and things told apart.

Flow is taken at full small size and its magnitude averaged; vectors are never averaged first, or motions that differ
would cancel. Source: 2311.15127 appendix C (Farneback at 2 fps); DIS is the default here because it also measures large
shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muybridge.models.vision.optical_flow import flow_between

#: Below this, as a share of the short side a second, nothing moves (sensor noise and compression).
STILL = 0.004
#: Blurred pictures that differ by less than this, grey levels over a few pixels, show the same.
QUIET = 1.0
#: A texture has at least this local standard deviation, grey levels.
TEXTURED = 3.0
#: Points that a camera's motion is fitted to, at least.
FEWEST = 12


def evidence(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(where two grey pictures differ by more than grain does, where that or a texture tells how they moved), bool [H,
    W].

    Where nothing changed a flow field is a guess; if there is a texture it stood still, else nobody knows.
    """
    import cv2

    a, b = (cv2.GaussianBlur(p, (0, 0), 1.5).astype(np.float32) for p in (first, second))
    changed = cv2.blur(np.abs(a - b), (9, 9)) > QUIET
    contrast = np.sqrt(np.maximum(cv2.blur(a * a, (9, 9)) - cv2.blur(a, (9, 9)) ** 2, 0))
    return np.asarray(changed), np.asarray(changed | (contrast > TEXTURED))


def camera_flow(flow: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """The part of a flow field that shift, zoom and turn of the whole picture explain, like `flow`.

    Fitted robustly on a grid: things that move on their own are outliers.

    Args:
        seen: bool [H, W], where the flow can be trusted; everywhere by default.
    """
    import cv2

    height, width = flow.shape[:2]
    step = max(4, min(height, width) // 24)
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    x, y = x.ravel(), y.ravel()
    if seen is not None:
        x, y = x[seen[y, x]], y[seen[y, x]]
    if len(x) < FEWEST:
        return np.zeros_like(flow)
    start = np.stack([x, y], 1).astype(np.float32)
    moved = start + flow[y, x]
    cv2.setRNGSeed(0)
    fitted, _ = cv2.estimateAffinePartial2D(start, moved, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if fitted is None:
        return np.zeros_like(flow)
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack(
        [
            fitted[0, 0] * xx + fitted[0, 1] * yy + fitted[0, 2] - xx,
            fitted[1, 0] * xx + fitted[1, 1] * yy + fitted[1, 2] - yy,
        ],
        -1,
    ).astype(np.float32)


@dataclass(frozen=True)
class Motion:
    """Mean motion of a clip.

    Attributes:
        motion: all of it, as a share of the short side a second: comparable across sizes and rates.
        pixels: the same, in pixels a step of the looked-at frames.
        camera: the camera's share of the short side a second.
        things: what the camera does not explain.
    """

    motion: float
    pixels: float
    camera: float
    things: float

    @property
    def kind(self) -> str:
        """ "static", "camera" or "things", whichever is most of it."""
        if self.motion < STILL:
            return "static"
        return "camera" if self.camera > self.things else "things"


def measure_motion(pictures: list[np.ndarray], seconds: list[float], method: str = "dis") -> Motion | None:
    """Motion over a clip's looked-at frames; None when there are fewer than two.

    Args:
        pictures: uint8 [h, w, 3], all of one size.
        seconds: when each was.
    """
    import cv2

    if len(pictures) < 2:
        return None
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures]
    short = min(grey[0].shape)
    rows = []
    for (a, b), (s, t) in zip(zip(grey, grey[1:], strict=False), zip(seconds, seconds[1:], strict=False), strict=True):
        changed, known = evidence(a, b)
        flow = flow_between(a, b, method) * changed[..., None]
        camera = camera_flow(flow, known) * known[..., None]
        sizes = [float(cv2.magnitude(f[..., 0], f[..., 1]).mean()) for f in (flow, camera, flow - camera)]
        rows.append([sizes[0], *(v / short / (t - s) for v in sizes)])
    pixels, motion, camera_share, things = np.mean(rows, 0).tolist()
    return Motion(motion, pixels, camera_share, things)
