"""What a user's model file or folder is, from names and shapes alone: nothing is loaded, nothing fetched (spec 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping
from muybridge.library.catalogue import OF_DIFFUSERS, check_weights
from muybridge.library.presets import told_of_channels, told_of_preset
from muybridge.models.weights.adapters.names import is_adapter
from muybridge.models.weights.found import ENCODER_WEIGHTS, PICKLES, shapes_of, weight_files
from muybridge.models.weights.opening import check_network
from muybridge.models.weights.packaged import WEIGHTS
from muybridge.opening.adapters import identify_adapter, identify_inversion, is_inversion
from muybridge.opening.identity import Identity
from muybridge.opening.offers import offers

Shapes = Mapping[str, tuple[int, ...]]

#: Classes of diffusers' folders that no package here opens by itself: what they are, and what takes them.
OTHERS = {
    "UNet2DConditionModel": (
        "picture U-Net",
        "the folder unet/ of an image model: `model: {image: FOLDER}` of a recipe takes the folder that holds it",
    ),
    "UNetSpatioTemporalConditionModel": (
        "Stable Video U-Net",
        "the folder unet/ of a Stable Video Diffusion model, which `animate --model` takes",
    ),
    "AutoencoderKL": ("picture autoencoder", "`model: {autoencoder: FOLDER}` of a recipe"),
    "AutoencoderKLTemporalDecoder": (
        "video autoencoder",
        "the folder vae/ of a Stable Video Diffusion model, which `animate --model` takes",
    ),
    "CLIPTextModel": ("CLIP text encoder", "`text: {encoder: FOLDER}` of a recipe, its tokenizer in it or beside it"),
    "T5EncoderModel": ("T5 text encoder", "`text: {encoder: FOLDER}` of a recipe, its tokenizer in it or beside it"),
    "MotionAdapter": (
        "AnimateDiff motion adapter",
        "generate --model SD_FOLDER --motion-module FILE_OR_FOLDER",
    ),
}


#: What transformers calls its models -> the names that they have here.
OF_TRANSFORMERS = {"clip": "CLIP", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
#: Parts of Stable Diffusion folders that are not used here.
OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
#: Parts that a folder of ours holds itself; others it names.
OWN_PARTS = ("unet", "vae", "network", "temporal")


def identify(path: Path) -> Identity:
    """Say what a file or folder is.

    Raises:
        UserError: nothing there, pickled, damaged, or nothing known.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise UserError(f"{path}: nothing there")
    if path.suffix.lower() in PICKLES:
        raise UserError(
            f"{path}: pickled weights can run code when opened and are refused; convert them to safetensors first"
        )
    if path.suffix.lower() != ".safetensors":
        raise UserError(
            f"{path}: expected a .safetensors file or a folder of diffusers, got {path.suffix or 'no ending'}"
        )
    shapes, size = shapes_of(path)
    found = _file(shapes, path)
    found.parameters, found.file_bytes = sum(prod(s) for s in shapes.values()), size
    return found


def _folder(folder: Path) -> Identity:
    for name in ("model_index.json", "config.json"):
        if (folder / name).is_file():
            config = read_mapping(folder / name)
            break
    else:
        raise UserError(f"{folder}: neither model_index.json nor config.json: not a model folder of diffusers")
    model_type = str(config.get("model_type"))
    kind = str(config.get("_class_name") or OF_TRANSFORMERS.get(model_type, model_type))
    known = {**OTHERS, **offers("KNOWS")}
    if kind not in known:
        raise UserError(f"{folder}: a {kind}, which muybridge does not know; known: {', '.join(sorted(known))}")
    found = Identity(*known[kind])
    weights = sorted(folder.rglob("*.safetensors"))
    for file in _taken(weights):
        if file.parent == folder and name == "model_index.json":
            continue  # single-file checkpoints beside the folders
        shapes, size = shapes_of(file)
        found.parameters += sum(prod(s) for s in shapes.values())
        found.file_bytes += size
    pickled = sorted(
        {p.parent.name for p in folder.rglob("*") if p.suffix in PICKLES and not list(p.parent.glob("*.safetensors"))}
        - set(OPTIONAL)
    )
    if pickled:
        found.needs.append(
            f"safetensors weights for {', '.join(pickled)}: only pickled ones are there, which are refused"
        )
    elif not weights:
        found.needs.append("its weights: there is no .safetensors file")
    else:
        found.needs += opening_says(folder, config, kind)
    _explain(found, folder, config)
    return found


def _taken(weights: Sequence[Path]) -> list[Path]:
    """Of each folder's files those that are opened: variants only where the plain ones are not there."""
    out: list[Path] = []
    for folder in sorted({file.parent for file in weights}):
        files = [file for file in weights if file.parent == folder]
        for name in (WEIGHTS, ENCODER_WEIGHTS):
            with suppress(UserError):
                files = [f for f in files if not f.name.startswith(name.partition(".")[0])] + weight_files(folder, name)
        out += files
    return out


def opening_says(folder: Path, config: Mapping[str, Any], kind: str) -> list[str]:
    """What opening a folder for use would refuse: the same check of its weights, by names and shapes."""
    try:
        if (folder / "model_index.json").is_file():
            if kind not in offers("OPENS"):
                return []
            check_weights(folder, dict(config))
            unet = folder / "unet"
            if kind in OF_DIFFUSERS and config.get("unet", ["", ""])[1] == "UNet2DConditionModel":
                check_network("UNet2DConditionModel", unet)
            parts = ("text_encoder", "text_encoder_2", "image_encoder") if kind in OF_DIFFUSERS else ()
            encoders = [folder / part for part in parts]
            for part in encoders:
                if part.is_dir():
                    for file in weight_files(part, ENCODER_WEIGHTS):
                        shapes_of(file)
        elif kind in ("ControlNetModel", "UNet2DConditionModel"):
            check_network(kind, folder)
    except UserError as error:
        return [f"to be opened: {error}"]
    return []


def _explain(found: Identity, folder: Path, config: dict[str, Any]) -> None:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        settings = read_mapping(scheduler)
        found.notes.append(
            f"predicts {settings.get('prediction_type', 'epsilon')}; noise table {settings.get('beta_schedule')}"
        )
        few = told_of_preset(settings)
        found.notes += [few] if few else []
    for part, entry in config.items() if (folder / "model_index.json").is_file() else ():
        if isinstance(entry, list) and len(entry) == 2 and entry[0] and not (folder / part).is_dir():
            if part in OPTIONAL or (found.kind.startswith("muybridge") and part not in OWN_PARTS):
                continue
            found.needs.append(f"its part {part} ({entry[1]}), which is not in the folder")
    unet = folder / "unet" / "config.json" if (folder / "unet").is_dir() else folder / "config.json"
    if unet.is_file():
        values = read_mapping(unet)
        if "cross_attention_dim" in values:
            channels = values.get("in_channels")
            if kind_takes_words(config) and channels and channels != values.get("out_channels", channels):
                found.needs.append(f"to be used: {told_of_channels(int(channels))}")
            widths = values.get("block_out_channels")
            found.notes.append(f"widths {widths}, cross-attention {values['cross_attention_dim']}")
    extra = folder / "muybridge.json"
    if extra.is_file():
        image = read_mapping(extra).get("image")
        if image:
            found.needs.append(f"the picture model {image}")


def kind_takes_words(config: Mapping[str, Any]) -> bool:
    """Whether a folder says that it draws pictures from words alone."""
    return str(config.get("_class_name")) in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def _file(shapes: Shapes, path: Path) -> Identity:
    names = list(shapes)

    def some(*parts: str) -> bool:
        return any(part in name for name in names for part in parts)

    if is_adapter(names):
        return identify_adapter(path)
    if some("motion_modules"):
        middle = some("mid_block.motion_modules")
        table = next((s for n, s in shapes.items() if "pos_encoder" in n or "pos_embed" in n), None)
        found = Identity(
            "AnimateDiff motion module file",
            OTHERS["MotionAdapter"][1],
        )
        widest = max((s[0] for n, s in shapes.items() if n.endswith("proj_in.weight")), default=0)
        xl = not any("down_blocks.3" in name for name in names)
        found.needs.append(f"a Stable Diffusion {'XL' if xl and widest else '1.5'} picture model")
        frames = f", at most {table[1]} frames" if table and len(table) > 1 else ""
        found.notes.append(
            f"{'v2: a module in the middle block' if middle else 'v1 or v3: none in the middle block'}{frames}"
        )
        return found
    if some("control_model.", "controlnet_cond_embedding"):
        if some("control_model."):
            return Identity("ControlNet file (CompVis names)", "control --control-net FILE")
        found = Identity("ControlNet file", "put it into a diffusers folder with its config.json")
        found.needs.append("its config.json (conditioning channels and widths)")
        return found
    if some("model.diffusion_model."):
        return _single_file(shapes)
    if some("time_mixer", "temporal_transformer_blocks"):
        what = OTHERS["UNetSpatioTemporalConditionModel"]
        return Identity(f"{what[0]} weights", what[1], needs=["the config.json beside it"])
    if some("down_blocks.0.resnets.0") and some("attentions.0.transformer_blocks"):
        what = OTHERS["UNet2DConditionModel"]
        return Identity(f"{what[0]} weights (diffusers names)", what[1], needs=["the config.json beside it"])
    if some("decoder.up_blocks") or some("first_stage_model."):
        return Identity("autoencoder weights", OTHERS["AutoencoderKL"][1], needs=["the config.json beside it"])
    if is_inversion(shapes):
        return identify_inversion(shapes)
    raise UserError(
        f"{path}: a safetensors file of no kind that muybridge knows; its first tensor is "
        f"{names[0] if names else 'none'}"
    )


def _single_file(shapes: Shapes) -> Identity:
    context = next((s[-1] for n, s in shapes.items() if n.endswith("attn2.to_k.weight")), 0)
    first = next((s for n, s in shapes.items() if n.endswith("input_blocks.0.0.weight")), (0, 4, 3, 3))
    family = {768: "1.x", 1024: "2.x", 2048: "XL"}.get(context, f"of cross-attention {context}")
    use = {9: ", for inpainting", 8: ", InstructPix2Pix"}.get(first[1], "")
    found = Identity(
        f"single-file Stable Diffusion {family}{use} (CompVis names)",
        "generate, zero, control, tune --model FILE; `models convert FILE FOLDER` writes it as a folder",
    )
    if context == 1024:
        found.notes.append("the file does not say whether it predicts epsilon (base) or v (768)")
    return found
