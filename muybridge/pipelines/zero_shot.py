"""A picture model whose frames look at each other and follow control pictures: what the systems without training share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.models.vision.control import Control, residuals_of
from muybridge.nn.frame_attention import FrameAttention, SharedText, key_frames, put_on
from muybridge.nn.text_conditioning import TextCondition
from muybridge.pipelines.latents import LatentPipeline, predict_frames


class ZeroShotPipeline(LatentPipeline):
    """An image model for videos, with frozen weights.

    Every self-attention layer gets our processor for good; outside `view` it is plain self-attention, so that the pipeline
    is then the image pipeline.
    """

    in_windows = True

    def __init__(
        self,
        network: nn.Module,
        vae: AutoencoderKL,
        scheduler: dict[str, Any],
        text_encoder: str | None = None,
        text_max_length: int = 16,
        sampling: dict[str, Any] | None = None,
    ):
        super().__init__(network, vae, scheduler, text_encoder, text_max_length, sampling)
        self.attention, self.control_attention = FrameAttention(), FrameAttention()
        self.text_attention = SharedText()
        put_on(network, self.attention)
        put_on(network, self.text_attention)
        self.controls: list[Control] = []
        self._frames: Tensor | None = None
        self._beside: Tensor | None = None

    @contextmanager
    def view(
        self, keys: Tensor | None, frames: Tensor | None = None, control_keys: Tensor | None = None
    ) -> Iterator[None]:
        """What the network sees within a block of code.

        Args:
            keys: who looks at whom, a table of nn.frame_attention; None for nobody.
            frames: which frames of the video are sampled, [F]; None for all.
            control_keys: the same as `keys` within the ControlNets.
        """
        former = self.attention.keys, self.control_attention.keys, self._frames
        self.attention.keys, self.control_attention.keys, self._frames = keys, control_keys, frames
        try:
            yield
        finally:
            self.attention.keys, self.control_attention.keys, self._frames = former

    @contextmanager
    def controlled(self, controls: Sequence[Control]) -> Iterator[None]:
        """Sample under ControlNets within a block of code.

        Raises:
            UserError: a ControlNet of another model's widths.
        """
        for control in controls:
            self._check(control.network)
            put_on(control.network, self.control_attention)
            put_on(control.network, self.text_attention)
        self.controls = list(controls)
        try:
            yield
        finally:
            self.controls = []

    def _check(self, network: ControlNetModel) -> None:
        for name in ("block_out_channels", "cross_attention_dim", "in_channels"):
            got, wanted = network.config[name], self.network.config[name]
            if got != wanted:
                raise UserError(f"this ControlNet has {name} {got}, the image model {wanted}: it belongs to another")

    @contextmanager
    def beside(self, latents: Tensor | None) -> Iterator[None]:
        """Further input channels [1, C, F, h, w] of the network (InstructPix2Pix' picture) within a block of code."""
        former, self._beside = self._beside, latents
        try:
            yield
        finally:
            self._beside = former

    def predict(self, z: Tensor, lam: Tensor, text: TextCondition | None) -> Tensor:
        assert text is not None
        index, tokens = self.table.index_of(lam).to(z.device, torch.float32), text.tokens.to(z)
        self.text_attention.frames = z.shape[2]
        if self._beside is not None:
            more = self._beside if self._frames is None else self._beside[:, :, self._frames]
            z = torch.cat([z, more.to(z).expand(len(z), -1, -1, -1, -1)], 1)
        return predict_frames(self.network, z, index, tokens, lambda *given: self._residuals(*given))

    def _residuals(self, z: Tensor, index: Tensor, tokens: Tensor) -> Any:
        return residuals_of(self.controls, z, index, tokens, self._frames)

    def keys(self, mode: str, frames: int) -> Tensor | None:
        """A key table by name.

        Raises:
            UserError: an unknown one.
        """
        try:
            return key_frames(mode, frames)
        except ValueError as error:
            raise UserError(str(error)) from error
