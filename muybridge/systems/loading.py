"""Opening saved models for sampling. Safetensors only."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from muybridge.errors import UserError, nearest
from muybridge.models.opening import cast, open_network
from muybridge.models.packaged import WEIGHTS
from muybridge.nn.layout import SLOW_BF16, emulates_bf16, suit_cpu
from muybridge.systems.model_folders import DEFAULT_MODEL, IMAGE_MODELS, check_weights, find_model, find_part, index_of
from muybridge.systems.pipeline import VideoPipeline
from muybridge.systems.pixel_pipeline import TextToVideoPipeline

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import nn

    from muybridge.systems.latent_pipeline import LatentPipeline

#: What a network's weights are kept and computed in.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_pipeline(
    name: str = DEFAULT_MODEL,
    device: str = "cpu",
    image_class: type[LatentPipeline] | None = None,
    picture: str = "",
    precision: str = "fp32",
) -> VideoPipeline:
    """Open a model for sampling on a device.

    Args:
        name: a bundled model, or a folder: what `save_pretrained` or `muybridge train` wrote, or a Stable Diffusion model.
        image_class: which pipeline an image model becomes; LatentPipeline by default.
        picture: for temporal layers behind a picture model: put them behind this one instead (2304.08818 section 4.2: a model tuned on
            a subject or a style moves without further training).
        precision: a name of PRECISIONS: "bf16" and "fp16" halve the memory of the network's weights. The autoencoder and the text
            encoder stay in float32, and so does what the sampler computes.

    Raises:
        UserError: unknown, incomplete, damaged, or pickled weights; a device or precision that is not there.
    """
    dtype = _checked(device, precision)
    folder = find_model(name)
    index = index_of(folder)
    check_weights(folder, index)
    try:
        pipeline = _open(folder, str(index.get("_class_name")), image_class, picture, dtype)
    except UserError:
        raise
    except Exception as error:  # diffusers and safetensors raise many kinds for damaged files
        raise UserError(f"{folder}: the model cannot be opened: {error}") from error
    left = [n for n, p in pipeline.network.named_parameters() if p.is_meta]
    if left:  # what diffusers' own loader left empty, in an image model's folder
        raise UserError(f"{folder}: {len(left)} tensors are missing from its weights, the first is {left[0]}")
    cast(pipeline.network, dtype).requires_grad_(False).eval()
    pipeline.precision = precision
    pipeline.set_progress_bar_config(disable=True)
    if torch.device(device).type != "cpu":
        return pipeline.to(device)
    suit_cpu(pipeline.network)
    if hasattr(pipeline, "vae"):
        suit_cpu(pipeline.vae)
    return pipeline


def _checked(device: str, precision: str) -> torch.dtype:
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; {nearest(precision, PRECISIONS)}")
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; expected cpu, cuda, cuda:1, mps, ...") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        raise UserError(f"device {device!r}: this machine, or this build of torch, has none; use cpu")
    if kind == "cpu" and precision == "fp16":
        raise UserError("precision fp16 is for GPUs; on a CPU bf16 takes as little memory")
    if kind == "cpu" and precision == "bf16" and emulates_bf16():
        warnings.warn(SLOW_BF16, stacklevel=3)
    return PRECISIONS[precision]


def _open(
    folder: Path, kind: str, image_class: type[LatentPipeline] | None, picture: str, dtype: torch.dtype
) -> VideoPipeline:
    if picture and kind != "InflatedPipeline":
        raise UserError(
            f"{folder}: a {kind} is whole; only temporal layers behind a picture model take another picture model"
        )
    if kind in IMAGE_MODELS:
        from muybridge.systems.latent_pipeline import LatentPipeline

        return (image_class or LatentPipeline).from_image_folder(folder, dtype)
    if kind == "InflatedPipeline":
        return _open_inflated(folder, picture)
    if kind == "ImageToVideoPipeline":
        return _open_image_to_video(folder)
    if kind == "Gen1Pipeline":
        return _open_gen1(folder)
    if kind != "TextToVideoPipeline":
        raise UserError(f"{folder}: a {kind}; expected a pipeline of muybridge or a StableDiffusionPipeline")
    module, cls = index_of(folder)["network"]
    network = open_network(getattr(importlib.import_module(module), cls), folder / "network")
    options = {"torch_dtype": torch.float32, "local_files_only": True}
    return TextToVideoPipeline.from_pretrained(str(folder), network=network, **options)


def load_picture_unet(image: str) -> UNet2DConditionModel:
    """The U-Net of a bundled image model or of a Stable Diffusion folder, float32."""
    from diffusers import UNet2DConditionModel

    folder = find_part(f"{image}/unet")
    return UNet2DConditionModel.from_pretrained(str(folder), local_files_only=True, torch_dtype=torch.float32)


def scheduler_of(image: str) -> dict[str, Any]:
    """The noise table and prediction type of an image model, in the words of a diffusers scheduler's config."""
    file = find_model(image) / "scheduler" / "scheduler_config.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {"prediction_type": "epsilon"} | {k: v for k, v in values.items() if not k.startswith("_")}


def _open_inflated(folder: Path, picture_model: str = "") -> VideoPipeline:
    from diffusers import UNet2DConditionModel

    from muybridge.models.compact import read_weights
    from muybridge.models.inflated_unet import InflatedUNet
    from muybridge.models.latents import LatentSpace
    from muybridge.models.video_autoencoder import load_decoder
    from muybridge.systems.latent_pipeline import InflatedPipeline

    settings = json.loads((folder / "muybridge.json").read_text(encoding="utf-8"))
    if picture_model:
        settings["image"] = picture_model
    picture = open_network(UNet2DConditionModel, find_part(f"{settings['image']}/unet"))
    temporal = json.loads((folder / "temporal" / "config.json").read_text(encoding="utf-8"))
    network = InflatedUNet.from_image_model(picture, temporal, copied=False)
    weights = {k: v.float() for k, v in read_weights(folder / "temporal" / WEIGHTS).items()}
    network.temporal.load_state_dict(weights, assign=True)
    if (folder / "image" / WEIGHTS).is_file():
        unknown = network.image.load_state_dict(read_weights(folder / "image" / WEIGHTS), strict=False).unexpected_keys
        if unknown:
            raise UserError(f"{folder}: its picture weights do not fit {settings['image']}: {unknown[0]}")
    vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
    pipeline = InflatedPipeline(network, vae, **settings)
    pipeline.swapped = picture_model
    if (folder / "decoder").is_dir():
        pipeline.space = LatentSpace(vae, decoder=load_decoder(folder / "decoder", vae))
    return pipeline


def _open_image_to_video(folder: Path) -> VideoPipeline:
    from muybridge.models.image_text import open_scorer
    from muybridge.models.inflated_unet import InflatedUNet
    from muybridge.models.latents import LatentSpace
    from muybridge.systems.stable_video_pipeline import ImageToVideoPipeline

    settings = json.loads((folder / "muybridge.json").read_text(encoding="utf-8"))
    network = open_network(InflatedUNet, folder / "network")
    vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
    scorer = open_scorer(find_part(settings["scorer"]))
    return ImageToVideoPipeline(network, vae, scorer, settings["sampling"])


def _open_gen1(folder: Path) -> VideoPipeline:
    from muybridge.models.content_prior import ContentPrior
    from muybridge.models.image_text import open_scorer
    from muybridge.models.inflated_unet import InflatedUNet
    from muybridge.models.latents import LatentSpace
    from muybridge.systems.gen1_pipeline import Gen1Pipeline

    settings = json.loads((folder / "muybridge.json").read_text(encoding="utf-8"))
    network = open_network(InflatedUNet, folder / "network")
    vae = LatentSpace.open(find_part(f"{settings['image']}/vae")).vae
    scorer = open_scorer(find_part(settings["scorer"]))
    where = str(find_part(settings["prior"]))
    prior = ContentPrior.from_pretrained(where, local_files_only=True, torch_dtype=torch.float32).eval()
    return Gen1Pipeline(network, vae, settings["scheduler"], scorer, prior, settings["sampling"])


def load_network_weights(network: nn.Module, name: str) -> None:
    """Copy a saved model's weights into a network of the same shape; an autoencoder's from its part of a model.

    Raises:
        UserError: an unknown model, or weights that do not fit.
    """
    from muybridge.models.autoencoder import AutoencoderWithCritic
    from muybridge.models.compact import read_weights

    if isinstance(network, AutoencoderWithCritic):
        network.start_from(find_part(name))
        return
    folder = find_model(name)
    check_weights(folder, index_of(folder))
    part = next(p for p in ("network", "unet", "temporal") if (folder / p / WEIGHTS).is_file())
    target = network.get_submodule("temporal") if part == "temporal" else network
    try:
        target.load_state_dict(read_weights(folder / part / WEIGHTS))
    except RuntimeError as error:
        raise UserError(f"{name}: its weights do not fit this recipe's network: {str(error)[:500]}") from error
