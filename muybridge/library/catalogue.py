"""Models on disk: bundled ones by name, others by folder, and what can be said of them without opening them."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from pathlib import Path
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.files import RECORD, ZOO, read_mapping
from muybridge.library.converted import folder_of, is_single_file
from muybridge.library.index import (
    CONFIG,
    INDEX,
    PICTURE_UNET,
    SAMPLING,
    SETTINGS,
    changed_sampling,
    index_of,
    settings_of,
)
from muybridge.library.presets import preset_of
from muybridge.models.weights.adapters.option import PEFT_FILE
from muybridge.models.weights.adapters.option import split_lora as split_lora
from muybridge.models.weights.found import feed_file, shapes_of, weight_files
from muybridge.models.weights.packaged import VOCABULARY

#: What benchmarks measured of a bundled model lies beside it, and is no part of it.
FIGURES = "figures.json"
#: What says something of a model and changes nothing of what it draws.
SAID = (FIGURES, RECORD, VOCABULARY, SAMPLING)
DEFAULT_MODEL = "emoji-video"
#: A LoRA's file name, as diffusers has it.
LORA = "pytorch_lora_weights.safetensors"
#: Noise in which a tuned video was found, beside the model that was tuned on it.
INVERSION = "inversion.safetensors"
#: Folders of diffusers that are opened here, and those of their parts that are networks of diffusers; the others are
#: schedulers and encoders of words and pictures.
_STABLE_DIFFUSION = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
OF_DIFFUSERS = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": _STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInstructPix2PixPipeline": _STABLE_DIFFUSION,
    "CogVideoXPipeline": {"transformer": "CogVideoXTransformer3DModel", "vae": "AutoencoderKLCogVideoX"},
    "StableVideoDiffusionPipeline": {"unet": "UNetSpatioTemporalConditionModel", "vae": "AutoencoderKLTemporalDecoder"},
}


def bundled_models() -> dict[str, Path]:
    """Names and folders of the models inside the package."""
    return {p.parent.name: p.parent for p in sorted(ZOO.glob("*/model_index.json"))}


def find_model(name: str) -> Path:
    """The folder of a bundled model's name or of a path.

    Raises:
        UserError: neither a bundled model nor a model folder.
    """
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    folder = Path(name).expanduser()
    if (folder / INDEX).is_file():
        return folder
    if is_single_file(folder):
        return folder_of(folder)
    if folder.is_dir():
        raise UserError(
            f"{name}: a folder without model_index.json; expected a saved pipeline, such as runs/NAME/model"
        )
    raise UserError(f"unknown model {name!r}; {nearest(name, bundled)}; or give the folder of a saved pipeline")


def sampling_of(folder: Path) -> dict[str, Any]:
    """The sampling settings of a model, or of a part such as a ControlNet, without opening it; none where none are
    kept."""
    index = index_of(folder) if (folder / INDEX).is_file() else {}
    picture = OF_DIFFUSERS.get(str(index.get("_class_name"))) is _STABLE_DIFFUSION
    one = {"num_frames": 1, **_preset(folder)} if picture else {}
    if (folder / SETTINGS).is_file():
        return {**one, **settings_of(folder).get("sampling", {})}
    return {**one, **index.get("sampling", {}), **changed_sampling(folder)}


def _preset(folder: Path) -> dict[str, Any]:
    """Steps and guidance of a user's picture model; its sampler is chosen by what each command does."""
    scheduler, network = folder / "scheduler" / "scheduler_config.json", folder / "unet" / CONFIG
    if not (scheduler.is_file() and network.is_file()):
        return {}
    config = read_mapping(network)
    told = config.get("time_cond_proj_dim") is not None
    preset = preset_of(read_mapping(scheduler), told, config.get("addition_embed_type") == "text_time")
    return {name: preset[name] for name in ("num_inference_steps", "guidance_scale")}


def find_part(name: str) -> Path:
    """The folder of one part of a model: of a bundled one ("emoji-image/vae"), or a path.

    Raises:
        UserError: neither.
    """
    given = Path(name).expanduser()
    if is_single_file(given):  # a ControlNet's
        given = folder_of(given)
    elif is_single_file(given.parent):
        given = folder_of(given.parent) / given.name
    for folder in (ZOO / name, given):
        if (folder / CONFIG).is_file():
            return folder
    raise UserError(
        f"{name!r}: no part of a model there (a folder with config.json). Bundled models: {', '.join(bundled_models())}"
    )


def find_lora(name: str) -> Path:
    """A LoRA's file: a path, a folder that holds one (diffusers', PEFT's, or its only one), or a bundled one's name.

    Raises:
        UserError: none of these.
    """
    given = Path(name).expanduser()
    for path in (given, given / LORA, given / PEFT_FILE, ZOO / name / LORA):
        if path.is_file():
            return path
    held = sorted(given.glob("*.safetensors")) if given.is_dir() else []
    if len(held) == 1:
        return held[0]
    if held:
        raise UserError(f"{name}: a folder of {len(held)} files; say which is the LoRA, such as {held[0]}")
    bundled = sorted(p.parent.name for p in ZOO.glob(f"*/{LORA}"))
    raise UserError(f"no LoRA file at {name}; bundled are: {', '.join(bundled) or 'none'}")


def model_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over a model's weights and configs, and of the picture model it names; written
    into every video."""
    digest = hashlib.sha256()
    named = settings_of(folder).get("image")
    if named:
        digest.update(model_hash(find_model(named)).encode())
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.name not in SAID and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            feed_file(digest, path)
    return digest.hexdigest()[:16]


def check_weights(folder: Path, index: dict[str, Any]) -> None:
    """Look at every network of a model folder without loading it.

    Raises:
        UserError: a class that is not known, weights missing, pickled, damaged or cut short.
    """
    for name in _networks(folder, index):
        for file in weight_files(folder / name):
            shapes_of(file)


def parameters_in(folder: Path) -> int:
    """Numbers in a folder's weights, those of its picture model not counted; the scales of packed ones neither."""
    files = (file for file in folder.rglob("*.safetensors") if file.name != VOCABULARY)
    found = [shape for file in files for shape in shapes_of(file)[0].items()]
    return sum(math.prod(shape) for name, shape in found if not name.endswith(":scale"))


def _networks(folder: Path, index: dict[str, Any]) -> dict[str, list[Any]]:
    parts = {k: v for k, v in index.items() if not k.startswith("_") and isinstance(v, list) and len(v) == 2}
    kind = str(index.get("_class_name"))
    if kind in OF_DIFFUSERS:
        return {name: ["diffusers", cls] for name, cls in OF_DIFFUSERS[kind].items()}
    for name, (module, cls) in parts.items():
        if not _is_ours(str(module)) and [module, cls] != PICTURE_UNET:
            raise UserError(f"{folder}: component {name} is a {module}.{cls}; expected a network of muybridge")
    return parts


def _is_ours(module: str) -> bool:
    """Whether a name is that of one of our modules; it is looked for, not imported."""
    try:
        return module.startswith("muybridge.") and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
