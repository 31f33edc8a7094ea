"""Parts of models on disk that others are built on: a picture U-Net, its noise table, weights to start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.catalogue import check_weights, find_model, find_part
from muybridge.library.index import CONFIG, index_of
from muybridge.models.weights.found import variant_of
from muybridge.models.weights.packaged import WEIGHTS

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import nn

    from muybridge.models.latent.video_autoencoder import VideoAutoencoder


def load_picture_unet(image: str) -> UNet2DConditionModel:
    """The U-Net of a bundled image model or of a Stable Diffusion folder, float32."""
    from diffusers import UNet2DConditionModel

    folder = find_part(f"{image}/unet")
    return UNet2DConditionModel.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, variant=variant_of(folder)
    )


def load_video_autoencoder(name: str) -> VideoAutoencoder:
    """An autoencoder whose decoder knows time: Stable Video's own, or a picture autoencoder that is given time and
    decodes as before."""
    from muybridge.models.latent.space import LatentSpace
    from muybridge.models.latent.video_autoencoder import VideoAutoencoder, load_stable_video_autoencoder

    folder = find_part(name)
    if read_mapping(folder / CONFIG).get("_class_name") == "AutoencoderKLTemporalDecoder":
        return load_stable_video_autoencoder(folder)
    return VideoAutoencoder.from_image_model(LatentSpace.open(folder).vae)


def scheduler_of(image: str) -> dict[str, Any]:
    """The noise table and prediction type of an image model, in the words of a diffusers scheduler's config."""
    values = read_mapping(find_model(image) / "scheduler" / "scheduler_config.json")
    return table_settings(values)


def table_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's config without its version: noise table, prediction type, and the class, which has a spacing of its
    own."""
    return {"prediction_type": "epsilon"} | {k: v for k, v in config.items() if k != "_diffusers_version"}


def load_network_weights(network: nn.Module, name: str) -> None:
    """Copy a saved model's weights into a network of the same shape; an autoencoder's from its part of a model.

    Raises:
        UserError: an unknown model, or weights that do not fit.
    """
    own: Any = getattr(network, "start_from", None)
    if own is not None:
        own(find_part(name))
        return
    put_weights(network, saved_weights(name), name)


def put_weights(network: nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Copy weights, as `saved_weights` has them, into a network.

    Args:
        name: the model that they are of, for messages.

    Raises:
        UserError: they do not fit.
    """
    # of a model behind a picture model the folder holds what trained; the rest is the picture model's
    partly = all(key.startswith(("temporal.", "image.")) for key in weights)
    alone = partly and not any(key.startswith("image.") for key in network.state_dict())
    if alone:  # the network is the picture model itself
        weights = {key.removeprefix("image."): value for key, value in weights.items()}
    try:
        found = network.load_state_dict(weights, strict=not partly)
        new = [] if alone else [key for key in found.missing_keys if not key.startswith("image.")]
        left = [*found.unexpected_keys, *new]
        if left:
            raise RuntimeError(f"{left[0]} is in one of them alone")
    except RuntimeError as error:
        raise UserError(f"{name}: its weights do not fit this recipe's network: {str(error)[:500]}") from error


def saved_weights(name: str) -> dict[str, torch.Tensor]:
    """What a saved model's folder holds of its network: all of it by the network's names, or behind a picture model
    what trained (`temporal.`, and `image.` where that did).

    Raises:
        UserError: an unknown model, or one without a network of its own.
    """
    from muybridge.models.weights.compact import read_weights

    folder = find_model(name)
    check_weights(folder, index_of(folder))
    for part in ("network", "unet"):
        if (folder / part / WEIGHTS).is_file():
            return read_weights(folder / part / WEIGHTS)
    parts = [part for part in ("temporal", "image") if (folder / part / WEIGHTS).is_file()]
    if not parts:
        raise UserError(f"{name}: no weights of a network there ({WEIGHTS} in network, unet, temporal or image)")
    return {f"{part}.{k}": v for part in parts for k, v in read_weights(folder / part / WEIGHTS).items()}
