"""Our video networks as the classes of diffusers that have the same layers: motion adapters, Stable Video's U-Net."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, MotionAdapter, UNetSpatioTemporalConditionModel
from torch import nn

from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.video_autoencoder import VideoAutoencoder, decoder_name
from muybridge.models.plugins.animatediff import MotionModules
from muybridge.models.weights.stable_video import OUTER_EPS, SCALARS, depths_of, rename


def motion_adapter(network: InflatedUNet) -> MotionAdapter:
    """The motion modules of an inflated network, as AnimateDiffPipeline takes them.

    Raises:
        UserError: temporal layers of another kind, or at other places.
    """
    temporal = network.temporal
    if not isinstance(temporal, MotionModules):
        raise UserError("diffusers has no class for these temporal layers: only motion modules are exported alone")
    image, told = network.image.config, dict(network.config.temporal_config)
    own = dict(temporal.named_in_files())
    with torch.device("meta"):
        made = MotionAdapter(
            block_out_channels=tuple(image.block_out_channels), motion_layers_per_block=image.layers_per_block,
            motion_num_attention_heads=told.get("heads", 8), motion_norm_num_groups=told.get("groups", 32),
            motion_max_seq_length=temporal.max_frames, use_motion_mid_block=any("mid_block" in n for n in own.values()),
        )  # fmt: skip
    state = temporal.state_dict()
    theirs = {f"{place}.": f"{name}." for name, place in own.items()}

    def source(name: str) -> str:
        start = next((place for place in theirs if name.startswith(place)), "")
        return theirs.get(start, "") + name.removeprefix(start)

    return _filled(made, {name: state.get(source(name)) for name in made.state_dict()})


def stable_video_unet(network: InflatedUNet, num_frames: int) -> UNetSpatioTemporalConditionModel:
    """An inflated network of Stable Video's layers, as StableVideoDiffusionPipeline takes it.

    Raises:
        UserError: another layout: other scalars, projections by convolution, or layers at other places.
    """
    image, told = network.image.config, dict(network.config.temporal_config)
    alike = told.get("type") == "video_ldm" and list(told.get("scalars", [])) == list(SCALARS)
    if not alike or told.get("outer_eps") != OUTER_EPS or not image.use_linear_projection:
        raise UserError(
            "diffusers' class builds every network as the published one: linear projections, the three scalars, and "
            f"norms with eps {OUTER_EPS:g} outside the middle; this one is of another layout"
        )
    width = int(told["scalar_channels"])
    heads = image.attention_head_dim
    with torch.device("meta"):
        made = UNetSpatioTemporalConditionModel(
            sample_size=image.sample_size, in_channels=image.in_channels, out_channels=image.out_channels,
            block_out_channels=tuple(image.block_out_channels), layers_per_block=image.layers_per_block,
            down_block_types=tuple(t.replace("2D", "SpatioTemporal") for t in image.down_block_types),
            up_block_types=tuple(t.replace("2D", "SpatioTemporal") for t in image.up_block_types),
            cross_attention_dim=image.cross_attention_dim, num_attention_heads=heads, num_frames=num_frames,
            transformer_layers_per_block=image.transformer_layers_per_block, addition_time_embed_dim=width,
            projection_class_embeddings_input_dim=len(SCALARS) * width,
        )  # fmt: skip
    state = network.state_dict()
    depth = depths_of(network.image)
    return _filled(made, {name: state.get(rename(name, depth)[0]) for name in made.state_dict()})


def stable_video_layers(network: InflatedUNet) -> dict[str, str]:
    """Names of a network's layers -> those in diffusers' Stable Video U-Net."""
    depth = depths_of(network.image)
    theirs = (name.rpartition(".")[0] for name in stable_video_unet(network, 1).state_dict())
    return {rename(f"{name}.weight", depth)[0].rpartition(".")[0]: name for name in theirs}


def stable_video_decoder(model: VideoAutoencoder) -> AutoencoderKLTemporalDecoder:
    """An autoencoder whose decoder knows time, as StableVideoDiffusionPipeline takes it.

    Raises:
        UserError: another build than the published one's.
    """
    image: Any = model.image.config
    names = ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels", "sample_size")
    told = {name: image[name] for name in (*names, "scaling_factor", "force_upcast", "down_block_types")}
    with torch.device("meta"):
        made = AutoencoderKLTemporalDecoder(**told)
    state = dict(model.state_dict())
    if "image.post_quant_conv.weight" in state:  # diffusers' class has none: a step before the first convolution
        raise UserError(
            "diffusers' decoder with time begins without the convolution that this one has (post_quant_conv)"
        )
    return _filled(made, {name: state.get(decoder_name(name)) for name in made.state_dict()})


def _filled(made: Any, tensors: dict[str, Any]) -> Any:
    """Put tensors in place of a model's empty ones."""
    wanted = made.state_dict()
    wrong = [n for n, v in tensors.items() if v is None or v.shape != wanted[n].shape]
    if wrong:
        raise UserError(f"this network's layers lie at other places than diffusers' {type(made).__name__}: {wrong[0]}")
    made.load_state_dict({n: v.detach().clone() for n, v in tensors.items()}, assign=True)
    out: nn.Module = made
    return out
