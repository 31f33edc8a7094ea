"""A small monocular depth network, trained on pictures whose depth is exact (data.composites)."""

from __future__ import annotations

from torch import Tensor, nn

from muybridge.models.vision.depth_net import DepthNet
from muybridge.parts.pixel_regression import PixelRegression


class DepthTraining(PixelRegression):
    """The system: clips of two frames, a picture and its inverse depth."""

    name = "depth"
    network_class = DepthNet

    def answer(self, model: nn.Module, clips: Tensor) -> tuple[Tensor, Tensor]:
        return model(clips[:, :, 0]), clips[:, :1, 1] / 2 + 0.5
