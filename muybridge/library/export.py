"""Models of ours as files that diffusers loads: image models whole, motion adapters, Stable Video's U-Net and its
decoder with time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping, whole_folder, write_json
from muybridge.library.catalogue import check_weights, find_model
from muybridge.library.index import CONFIG, INDEX, index_of, settings_of
from muybridge.models.text.encoder import TextConfig, TextEncoder
from muybridge.models.weights.packaged import WEIGHTS


def _adapter_of(folder: Path) -> Any:
    from muybridge.library.parts import load_picture_unet
    from muybridge.models.inflated_unet import InflatedUNet
    from muybridge.models.weights.compact import read_weights
    from muybridge.models.weights.for_diffusers import motion_adapter

    image = load_picture_unet(settings_of(folder)["image"])
    network = InflatedUNet.from_image_model(image, read_mapping(folder / "temporal" / CONFIG), copied=False)
    weights = read_weights(folder / "temporal" / WEIGHTS)
    network.temporal.load_state_dict({k: v.float() for k, v in weights.items()})
    return motion_adapter(network)


def _stable_video_of(folder: Path) -> Any:
    from muybridge.models.inflated_unet import InflatedUNet
    from muybridge.models.weights.for_diffusers import stable_video_unet
    from muybridge.models.weights.opening import open_network

    frames = int(settings_of(folder).get("sampling", {}).get("num_frames", 14))
    return stable_video_unet(open_network(InflatedUNet, folder / "network"), frames)


def _decoder_of(folder: Path) -> Any:
    from muybridge.library.parts import load_video_autoencoder
    from muybridge.models.latent.video_autoencoder import read_decoder
    from muybridge.models.weights.for_diffusers import stable_video_decoder

    model = load_video_autoencoder(str(read_mapping(folder / CONFIG)["picture"]))
    read_decoder(model, folder)
    return stable_video_decoder(model)


#: Class of a model's pipeline -> its network as diffusers has it.
NETWORKS: dict[str, Callable[[Path], Any]] = {
    "InflatedPipeline": _adapter_of,
    "ImageToVideoPipeline": _stable_video_of,
}


def export_diffusers(name: str, target: Path) -> Path:
    """Write a folder that diffusers loads without muybridge: of an image model StableDiffusionPipeline's, of motion
    modules a MotionAdapter's, of an image-to-video model of Stable Video's layout a UNetSpatioTemporalConditionModel's,
    of a decoder with time that was trained from Stable Video's an AutoencoderKLTemporalDecoder's.

    Args:
        name: a bundled model or the folder of one.
        target: a new folder; it appears whole or not at all.

    Raises:
        UserError: a model that diffusers has no class for, or a target that exists.
    """
    if target.exists():
        raise UserError(f"{target}: is there already; choose a new folder")
    decoder = Path(name).expanduser()
    if (decoder / "decoder.safetensors").is_file():
        return _saved(_decoder_of(decoder), target)
    folder = find_model(name)
    index = index_of(folder)
    kind = str(index.get("_class_name"))
    check_weights(folder, index)
    if kind in NETWORKS:
        return _saved(NETWORKS[kind](folder), target)
    if kind != "StableDiffusionPipeline":
        raise UserError(f"{name}: a {kind}; diffusers has a layout for image models and {', '.join(NETWORKS)} only")
    settings = settings_of(folder)
    config = TextConfig(settings["text_encoder"], settings["text_max_length"])
    encoder = TextEncoder(config)
    with whole_folder(target, "a model") as unfinished:
        _write(folder, index, encoder, config, unfinished)
    return target


def _saved(network: Any, target: Path) -> Path:
    with whole_folder(target, "a model") as unfinished:
        network.save_pretrained(str(unfinished))
    return target


def _write(folder: Path, index: dict[str, Any], encoder: TextEncoder, config: TextConfig, unfinished: Path) -> None:
    shutil.copytree(folder, unfinished, dirs_exist_ok=True)
    # diffusers pads to the tokenizer's own length and hides padding only if the encoder's config says so
    encoder.tokenizer.model_max_length = config.max_length
    encoder.model.config.use_attention_mask = True
    encoder.tokenizer.save_pretrained(str(unfinished / "tokenizer"))
    encoder.model.save_pretrained(str(unfinished / "text_encoder"))
    index["text_encoder"] = ["transformers", type(encoder.model).__name__]
    index["tokenizer"] = ["transformers", type(encoder.tokenizer).__name__]
    write_json(unfinished / INDEX, index)
