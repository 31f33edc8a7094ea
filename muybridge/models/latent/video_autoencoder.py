"""A picture autoencoder whose decoder knows time: temporal convolutions behind the decoder's blocks, the encoder
untouched.

`model.image` is an ordinary AutoencoderKL, so the latent space, and with it every diffusion model on it, stays valid.
Source: 2304.08818 section 3.1.2; layers as in Stable Video Diffusion's decoder (convolution only).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.models.weights.compact import read_weights
from muybridge.models.weights.found import weight_files
from muybridge.models.weights.opening import cast
from muybridge.nn.frames import batch_to_frames, frames_to_batch
from muybridge.nn.passes import PassesCalls
from muybridge.nn.sites import Site, spatial_sites
from muybridge.nn.temporal import AlphaBlender, Call, SiteHook, TemporalPlugin, TemporalResBlock


class DecoderLayers(TemporalPlugin):
    """A temporal residual block behind each of the decoder's, and a last convolution over the frames' colours.

    Args:
        sites: from `choose`.
        groups: of the group normalisation.
    """

    def __init__(self, sites: Sequence[Site], groups: int = 32):
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {s.key: TemporalResBlock(s.channels, None, math.gcd(groups, s.channels), 1e-5) for s in sites}
        )
        self.mixes = nn.ModuleDict({s.key: AlphaBlender(0.0, reverse=True) for s in sites})
        self.time_conv_out = nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0))
        with torch.no_grad():  # the identity: each colour from itself at the same frame
            self.time_conv_out.weight.zero_()
            self.time_conv_out.weight[range(3), range(3), 1] = 1.0
            assert self.time_conv_out.bias is not None
            self.time_conv_out.bias.zero_()

    @classmethod
    def choose(cls, sites: list[Site]) -> list[Site]:
        return [s for s in sites if s.kind == "resnet" and s.path.startswith("decoder.")]

    def follow(self, key: str, x: Tensor, call: Call, time: Tensor | None, text: Tensor | None) -> Tensor:
        video = x.unflatten(0, (-1, call.frames)).transpose(1, 2)
        mixed: Tensor = self.mixes[key](video, self.convolutions[key](video))
        return mixed.transpose(1, 2).flatten(0, 1)


class VideoAutoencoder(PassesCalls, ModelMixin, ConfigMixin):
    """Encodes frames one by one, decodes them together.

    Args:
        image_config: arguments of AutoencoderKL.
    """

    _supports_gradient_checkpointing = True
    temporal: DecoderLayers

    @register_to_config
    def __init__(self, image_config: dict[str, Any]):
        super().__init__()
        self.image = AutoencoderKL(**{k: v for k, v in image_config.items() if not k.startswith("_")})
        sites = DecoderLayers.choose(list(spatial_sites(self.image)))
        self.temporal = DecoderLayers(sites, int(image_config.get("norm_num_groups", 32)))
        for site in sites:
            self.image.get_submodule(site.path).register_forward_hook(SiteHook(self, site), with_kwargs=True)

    @classmethod
    def from_image_model(cls, vae: AutoencoderKL) -> VideoAutoencoder:
        """Give a picture autoencoder's decoder time; decodes as before until its temporal layers are trained."""
        made = cls(dict(vae.config))
        made.image.load_state_dict(vae.state_dict())
        cast(made, vae.dtype)
        return made

    def enable_gradient_checkpointing(self) -> None:
        self.image.enable_gradient_checkpointing(self.checkpointed)

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The decoder, spatial and temporal; the encoder is frozen, and so is everything that shapes latents."""
        return [(n, p) for n, p in self.named_parameters() if not n.startswith(ENCODER)]

    def encode(self, pictures: Tensor) -> Any:
        """The picture autoencoder's own: [N, 3, H, W] -> an output with `latent_dist`."""
        return self.image.encode(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w], unscaled -> [B, 3, F, H, W]; all frames see each other."""
        with self.passing(Call(latents.shape[2])):
            pictures = self.image.decode(frames_to_batch(latents)).sample
        out: Tensor = self.temporal.time_conv_out(batch_to_frames(pictures, len(latents)))
        return out


# --- our own files ----------------------------------------------------------------------------------------------------

DECODER = "decoder.safetensors"
ENCODER = ("image.encoder.", "image.quant_conv.")


def save_decoder(model: VideoAutoencoder, picture: str, folder: Path) -> None:
    """Write the decoder alone, spatial and temporal; the encoder stays in the picture autoencoder it came from.

    Args:
        picture: that autoencoder's name, recorded beside the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith(ENCODER)}
    save_file(kept, folder / DECODER)
    (folder / "config.json").write_text(json.dumps({"picture": picture}, indent=1) + "\n", encoding="utf-8")


def load_decoder(folder: Path, vae: AutoencoderKL) -> VideoAutoencoder:
    """A video autoencoder: this encoder with the decoder in `folder`.

    Raises:
        UserError: weights that do not fit.
    """
    model = VideoAutoencoder.from_image_model(vae)
    read_decoder(model, folder)
    return model.eval().requires_grad_(False)


def read_decoder(model: VideoAutoencoder, folder: Path) -> None:
    """Copy the decoder in `folder` into a video autoencoder.

    Raises:
        UserError: none is there, or its weights do not fit.
    """
    if not (folder / DECODER).is_file():
        raise UserError(f"{folder}: {DECODER} is missing")
    weights = {k: v.float() for k, v in read_weights(folder / DECODER).items()}
    shapes = {k: v.shape for k, v in model.state_dict().items() if not k.startswith(ENCODER)}
    if {k: v.shape for k, v in weights.items()} != shapes:
        raise UserError(f"{folder}: its decoder is of another build than the picture autoencoder's")
    model.load_state_dict(weights, strict=False)


# --- Stable Video Diffusion's files -----------------------------------------------------------------------------------


def video_autoencoder_from(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> VideoAutoencoder:
    """Our network with the weights of diffusers' AutoencoderKLTemporalDecoder.

    Raises:
        UserError: a decoder of another build, or tensors missing or left over.
    """
    if int(config["layers_per_block"]) != 2:
        raise UserError("a temporal decoder with layers_per_block other than 2 has a middle block of another build")
    names = ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels", "sample_size")
    image = {name: config[name] for name in names} | {
        "down_block_types": tuple(config["down_block_types"]),
        "up_block_types": ("UpDecoderBlock2D",) * len(config["block_out_channels"]),
        "scaling_factor": config.get("scaling_factor", 0.18215),
        "force_upcast": config.get("force_upcast", True),
        "use_post_quant_conv": False,
    }
    model = VideoAutoencoder(image)
    wrong = model.load_state_dict({decoder_name(n): v for n, v in weights.items()}, strict=False)
    if wrong.missing_keys or wrong.unexpected_keys:
        first = (wrong.missing_keys + wrong.unexpected_keys)[0]
        raise UserError(f"these are not the weights of a temporal decoder; {first} does not fit")
    return model.eval()


def load_stable_video_autoencoder(folder: Path) -> VideoAutoencoder:
    """Read the `vae` folder of a Stable Video Diffusion model."""
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        weights |= {name: value.float() for name, value in load_file(file).items()}
    return video_autoencoder_from(read_mapping(folder / "config.json"), weights)


def decoder_name(name: str) -> str:
    """Where a tensor of diffusers' AutoencoderKLTemporalDecoder is here."""
    if name.startswith("decoder.time_conv_out."):
        return "temporal." + name.removeprefix("decoder.")
    found = re.match(r"(decoder\..+\.resnets\.\d+)\.(spatial_res_block|temporal_res_block|time_mixer)\.(.+)", name)
    if not found:
        return f"image.{name}"
    path, part, rest = found.groups()
    if part == "spatial_res_block":
        return f"image.{path}.{rest}"
    where = "convolutions" if part == "temporal_res_block" else "mixes"
    return f"temporal.{where}.{path.replace('.', '_')}.{rest}"
