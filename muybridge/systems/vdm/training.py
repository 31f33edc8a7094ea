"""Video Diffusion Models (Ho et al. 2022, 2204.03458): one network for a fixed block of frames, trained jointly on
video and images; extension, interpolation and super-resolution at sampling time by reconstruction guidance.

The loss and the sampling do not depend on which network predicts, so the spacetime transformer trains here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from muybridge.learning.pixel_diffusion import PixelDiffusion
from muybridge.pipelines.pixels import TextToVideoPipeline


class VDM(PixelDiffusion):
    """The system."""

    name = "vdm"
    distils = True

    def pipeline(self, model: nn.Module) -> TextToVideoPipeline:
        return TextToVideoPipeline(model, **self.own_settings())

    def preview(self, model: nn.Module, prompts: list[str], sampling: Mapping[str, Any], clips: Tensor) -> np.ndarray:
        """The prompts, or one video without text, drawn with fixed seeds."""
        pipeline = self.pipeline(model)
        pipeline.register_to_config(sampling=dict(sampling))
        return pipeline(prompts or None, seed=0).frames
