"""Any picture U-Net of diffusers as a video network: the U-Net stays as it is, a temporal plug-in acts behind its
layers.

`model.image` is an ordinary UNet2DConditionModel, with its own parameter names: image LoRAs, ControlNets and attention
processors apply to it unchanged. `model.temporal` is the plug-in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from muybridge.errors import UserError, nearest
from muybridge.models.arguments import check_arguments
from muybridge.models.plugins.registry import PLUGINS
from muybridge.nn.embeddings import guidance_wave
from muybridge.nn.frame_attention import SharedText, set_frame_attention
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.nn.passes import PassesCalls
from muybridge.nn.sites import spatial_sites
from muybridge.nn.temporal import BlockHook, Call, SiteHook, TemporalPlugin


@dataclass
class InflatedOutput(BaseOutput):
    """The prediction [B, C, F, H, W]."""

    sample: Tensor


class EmbeddingHook:
    """Lets the plug-in add to the time embedding."""

    def __init__(self, owner: InflatedUNet):
        self.owner = owner

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        call = self.owner.call
        return output if call is None else self.owner.temporal.embed(output, call)


class InflatedUNet(PassesCalls, ModelMixin, ConfigMixin):
    """A picture U-Net with time.

    Args:
        image_config: arguments of UNet2DConditionModel.
        temporal_config: {"type": a name of models.plugins, ...the plug-in's settings}.

    Raises:
        UserError: an unknown plug-in or setting.
    """

    _supports_gradient_checkpointing = True
    #: what FSDP wraps: blocks of the picture network, and with them the temporal layers behind theirs
    _no_split_modules = ["ResnetBlock2D", "BasicTransformerBlock", "TemporalResBlock", "TemporalTransformerBlock"]

    @register_to_config
    def __init__(self, image_config: dict[str, Any], temporal_config: dict[str, Any]):
        super().__init__()
        self.image = UNet2DConditionModel(**{k: v for k, v in image_config.items() if not k.startswith("_")})
        self._attach(temporal_config)

    def _attach(self, temporal: Mapping[str, Any]) -> None:
        settings = dict(temporal)
        kind = str(settings.pop("type", None))
        if kind not in PLUGINS:
            raise UserError(f"temporal.type: unknown {kind!r}; {nearest(kind, PLUGINS)}")
        check_arguments(settings)
        every = list(spatial_sites(self.image))
        sites = PLUGINS[kind].choose(every)
        try:
            self.temporal: TemporalPlugin = PLUGINS[kind](self.image.config, sites, **settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"temporal: {error}") from error
        self.temporal.prepare_image(self.image)
        self.shared_text = SharedText()
        set_frame_attention(self.image, self.shared_text)
        for site in sites:
            self.image.get_submodule(site.path).register_forward_hook(SiteHook(self, site), with_kwargs=True)
        for block in (*self.image.down_blocks, self.image.mid_block, *self.image.up_blocks):
            if block is not None:
                block.register_forward_pre_hook(BlockHook(self), with_kwargs=True)
        self.image.time_embedding.register_forward_hook(EmbeddingHook(self))

    @classmethod
    def from_image_model(
        cls, unet: UNet2DConditionModel, temporal: Mapping[str, Any], copied: bool = True
    ) -> InflatedUNet:
        """Inflate a picture U-Net; its weights are copied, or with `copied` False it becomes part of the new
        network."""
        with torch.device("meta"):
            made = cls(dict(unet.config), dict(temporal))
        made = made.to_empty(device=unet.device)
        made.image = copy.deepcopy(unet) if copied else unet
        # parameters of the plug-in were allocated without values: build it again for real
        made._attach(temporal)
        made.temporal.to(unet.device, unet.dtype)
        return made

    def to_image_model(self) -> UNet2DConditionModel:
        """A plain picture U-Net with this one's spatial weights."""
        plain = UNet2DConditionModel.from_config(self.image.config)
        plain.load_state_dict(self.image.state_dict())
        nn.Module.to(plain, self.image.dtype)  # diffusers' own warns of layers that it has not
        return plain

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What the plug-in says trains."""
        return [(n, p) for n, p in self.named_parameters() if self.temporal.trainable(n)]

    def enable_gradient_checkpointing(self) -> None:
        self.image.enable_gradient_checkpointing(self.checkpointed)

    def _enter(self, call: Call | None) -> None:
        super()._enter(call)
        # frames that stand alone stay the picture network's to the last bit
        shares = call is not None and call.one_text and not call.images_only
        self.shared_text.frames = call.frames if call is not None and shares else 1
        self.shared_text.videos = call.videos if call is not None and shares else 0

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        conditions: Mapping[str, Tensor] | None = None,
        images_only: bool = False,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        guidance: Tensor | None = None,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> InflatedOutput | tuple[Tensor]:
        """Predict from noisy frames.

        Args:
            sample: [B, C, F, H, W].
            timestep: [B] (or a number), as the picture U-Net takes it.
            encoder_hidden_states: text tokens, [B, L, D] or one set a frame [B, F, L, D].
            conditions: of the plug-in, by name.
            images_only: every frame stands alone; the output is the picture U-Net's.
            added_cond_kwargs: of the picture U-Net (SDXL), [B, ...].
            down_block_additional_residuals, mid_block_additional_residual: a ControlNet's, [B F, ...].
            guidance: the scale [B] that a distilled network is told (the picture U-Net's `time_cond_proj_dim`).
            class_labels: of the picture U-Net (unCLIP's picture embedding, a condition's noise level), [B, ...].

        Raises:
            UserError: a ControlNet's residuals where the plug-in resamples time: they have rows for all frames.
        """
        if self.temporal.resamples_time and down_block_additional_residuals is not None:
            raise UserError("a ControlNet cannot stand beside temporal layers that resample time; leave it out")
        batch, frames = sample.shape[0], sample.shape[2]
        timestep = torch.as_tensor(timestep, device=sample.device).expand(batch)
        text = encoder_hidden_states
        call = Call(frames, images_only, text.ndim == 3, dict(conditions or {}), videos=batch)
        text = text.flatten(0, 1) if text.ndim == 4 else text.repeat_interleave(frames, 0)
        added = {k: v.repeat_interleave(frames, 0) for k, v in (added_cond_kwargs or {}).items()}
        with self.passing(call):
            self.temporal.begin(sample, call)
            output = self.image(
                frames_to_batch(self.temporal.inputs(sample, call)),
                timestep.repeat_interleave(frames, 0),
                timestep_cond=None
                if guidance is None
                else guidance_wave(guidance).to(sample).repeat_interleave(frames, 0),
                class_labels=None if class_labels is None else class_labels.repeat_interleave(frames, 0),
                encoder_hidden_states=text,
                added_cond_kwargs=added or None,
                down_block_additional_residuals=down_block_additional_residuals,
                mid_block_additional_residual=mid_block_additional_residual,
            ).sample
        out = batch_to_frames(output, batch)
        return InflatedOutput(sample=out) if return_dict else (out,)
