"""A user's picture model with AnimateDiff's motion modules: `generate --model FOLDER --motion-module FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.files import read_mapping, sha256_of
from muybridge.library.index import CONFIG
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.plugins.animatediff import MotionModules, read_motion_file
from muybridge.models.weights.found import PICKLES, weight_files
from muybridge.models.weights.opening import stream_weights
from muybridge.nn.sites import spatial_sites
from muybridge.pipelines.inflated import InflatedPipeline
from muybridge.pipelines.latents import LatentPipeline
from muybridge.pipelines.settings import MOTION_FRAMES

#: The noise table that the published modules were trained on; the rest of the picture model's scheduler stays.
TABLE = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "trained_betas": None}
#: Frames and rate of their videos.
SAMPLING = {"num_frames": MOTION_FRAMES, "fps": 8.0}
#: The names in which original files keep the table of positions, which says how many frames a module takes.
POSITIONS = ("pos_encoder.pe", "pos_embed.pe")


def with_motion(pipeline: LatentPipeline, place: str) -> InflatedPipeline:
    """Put motion modules behind the layers of an opened picture model.

    Args:
        place: an AnimateDiff file (v1, v2, v3, SDXL), or a folder of diffusers' MotionAdapter.

    Raises:
        UserError: no such file, pickled, or for another picture model.
    """
    if type(pipeline) is not LatentPipeline:
        raise UserError(
            f"--motion-module: {place} stands behind a picture model (a Stable Diffusion folder); this one is a "
            f"{type(pipeline).__name__}"
        )
    file, config = motion_files(place)
    weights = {name: value.float() for one in file for name, value in stream_weights(one)}
    settings = temporal_settings(weights, config, place)
    image: Any = pipeline.network
    network = InflatedUNet.from_image_model(image, settings, copied=False)
    _put(network, weights, place)
    config = dict(pipeline.config)
    sampling = {**config["sampling"], **SAMPLING}
    frames = min(MOTION_FRAMES, settings["max_frames"])
    made = InflatedPipeline(
        network, pipeline.vae, {**config["scheduler"], **TABLE}, config["text_encoder"], config["text_max_length"],
        {**sampling, "num_frames": frames},
    )  # fmt: skip
    made.motion = {"file": str(Path(place).expanduser().resolve()), "sha256": "/".join(sha256_of(f) for f in file)}
    return made


def motion_files(place: str) -> tuple[list[Path], dict[str, Any]]:
    """The weights of a motion module file, or of a MotionAdapter's folder, and the folder's config.

    Raises:
        UserError: none there, or pickled.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return weight_files(path), read_mapping(path / CONFIG)
    if path.suffix.lower() in PICKLES:
        raise UserError(f"{path}: pickled weights can run code when opened and are refused; convert it to safetensors")
    if not path.is_file():
        raise UserError(f"--motion-module: no file or folder at {path}")
    return [path], {}


def temporal_settings(weights: Mapping[str, Tensor], config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Settings of the plug-in: of a MotionAdapter's config, else what names and shapes say.

    Raises:
        UserError: no motion module's weights.
    """
    if not any("motion_modules" in name for name in weights):
        raise UserError(f"{place}: no motion module: none of its tensors is one's")
    tables = [value.shape[-2] for name, value in weights.items() if name.endswith(POSITIONS)]
    return {
        "type": "motion_modules",
        "heads": int(config.get("motion_num_attention_heads") or 8),
        "max_frames": int(tables[0] if tables else config.get("motion_max_seq_length") or 32),
        "middle": any("mid_block.motion_modules" in name for name in weights),
        "groups": int(config.get("motion_norm_num_groups") or 32),
    }


def _put(network: InflatedUNet, weights: Mapping[str, Tensor], place: str) -> None:
    strange = [name for name in weights if "motion_modules" not in name]
    if strange:
        raise UserError(
            f"{place}: {len(strange)} of its tensors are no motion module's, such as {strange[0]}; files that change "
            "the picture network too (PIA) are not read"
        )
    sites = MotionModules.choose(list(spatial_sites(network.image)))
    found = read_motion_file(weights, sites)
    try:
        missing = network.temporal.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise UserError(f"{place}: made for another picture model than this one: {str(error)[:300]}") from error
    lost = [n for n in missing.missing_keys if "pos_embed" not in n] + list(missing.unexpected_keys)
    if lost:
        raise UserError(f"{place}: made for another picture model than this one: {lost[0]} has no counterpart")
    network.temporal.to(torch.float32)
