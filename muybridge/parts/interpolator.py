"""A small interpolator of frames, trained on clips of three: the ends are given, the middle is the answer."""

from __future__ import annotations

from torch import Tensor, nn

from muybridge.models.vision.frame_interpolation import FrameInterpolation
from muybridge.parts.pixel_regression import PixelRegression


class InterpolatorTraining(PixelRegression):
    """The system: clips of three frames."""

    name = "interpolator"
    network_class = FrameInterpolation

    def answer(self, model: nn.Module, clips: Tensor) -> tuple[Tensor, Tensor]:
        first, middle, last = (clips / 2 + 0.5).unbind(2)
        return model(first, last), middle
