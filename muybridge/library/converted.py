"""Single files as folders: written once into the cache, by what their tensors say, and opened from there."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muybridge.errors import Notice, UserError
from muybridge.files import cache_folder, whole_folder, write_json
from muybridge.library.index import INDEX
from muybridge.models.weights import single_file as parts
from muybridge.models.weights.found import shapes_of

#: How a tensor's name ends that only counts 0, 1, 2, ...: networks of today make it themselves.
COUNTED = "position_ids"


def is_single_file(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors" and path.is_file()


def folder_of(file: Path, prediction: str = "") -> Path:
    """The folder of a single file, made at its first use.

    Args:
        prediction: "epsilon" or "v_prediction", where the file does not say.

    Raises:
        UserError: not a Stable Diffusion checkpoint or ControlNet, or one that cannot be told apart.
    """
    stat = file.stat()
    mark = hashlib.sha256(repr((str(file.resolve()), stat.st_size, stat.st_mtime_ns, prediction)).encode()).hexdigest()
    folder = cache_folder() / "converted" / f"{file.stem}-{mark[:12]}"
    if not folder.is_dir():
        warnings.warn(f"{file}: is written once as a folder, {folder}", Notice, stacklevel=3)
        convert(file, folder, prediction)
    return folder


def convert(file: Path, folder: Path, prediction: str = "") -> Path:
    """Write a single file's networks as a diffusers folder, which appears whole or not at all; see `folder_of`."""
    shapes, _ = shapes_of(file)
    family = parts.family_of(shapes)
    names = list(shapes)
    if any(n.startswith(parts.CONTROL) or n.startswith("controlnet_cond_embedding.") for n in names):
        with whole_folder(folder, "a ControlNet", str(file)) as unfinished:
            _write_control(file, shapes, unfinished)
        return folder
    if not family or not any(n.startswith(parts.UNET) for n in names):
        raise UserError(
            f"{file}: not a whole Stable Diffusion checkpoint: `muybridge models import {file}` says what it is"
        )
    channels = parts.unet_config(shapes, parts.UNET, family == "1")["in_channels"]
    if channels not in (4, 8):
        raise UserError(f"{file}: its network takes {channels} channels (inpainting), which is not sampled with here")
    if family == "2" and not prediction:
        raise UserError(
            f"{file}: a Stable Diffusion 2.x file does not say whether it predicts epsilon (base) or v (768): write it "
            f"as a folder first, `muybridge models convert {file} FOLDER --prediction v_prediction`"
        )
    with whole_folder(folder, "a model", str(file)) as unfinished:
        _write_model(file, shapes, family, prediction or "epsilon", channels == 8, unfinished)
    return folder


def _write_model(file: Path, shapes: Any, family: str, prediction: str, edits: bool, folder: Path) -> None:
    import diffusers
    from diffusers.loaders import single_file_utils as theirs
    from safetensors.torch import load_file

    from muybridge.models.text.clip_vocabulary import write_tokenizer

    xl, weights = family == "xl", load_file(file)
    unet = parts.unet_config(shapes, parts.UNET, family == "1")
    unet["sample_size"] = 128 if xl else 96 if prediction == "v_prediction" else 64
    made = diffusers.UNet2DConditionModel(**unet)
    _check_all_read(file, shapes, parts.UNET, made)
    _fill(made, theirs.convert_ldm_unet_checkpoint(dict(weights), config=made.config), folder / "unet", file)
    vae = diffusers.AutoencoderKL(**parts.vae_config(shapes, xl))
    _fill(vae, theirs.convert_ldm_vae_checkpoint(dict(weights), vae.config), folder / "vae", file)
    write_json(folder / "scheduler" / "scheduler_config.json", parts.scheduler_config(family, prediction))
    write_tokenizer(folder / "tokenizer", "!" if family == "2" else "<|endoftext|>")
    if xl:
        write_tokenizer(folder / "tokenizer_2", "!")
    for name, (model, converted) in _encoders(shapes, family, weights).items():
        _fill(model, converted, folder / name, file)
    cls = "StableDiffusionXLPipeline" if xl else "StableDiffusionInstructPix2PixPipeline" if edits else ""
    write_json(folder / INDEX, _index(cls or "StableDiffusionPipeline", family, xl))


def _encoders(shapes: Any, family: str, weights: Any) -> dict[str, tuple[Any, Any]]:
    """Part -> the empty model, and its tensors by transformers' names."""
    from diffusers.loaders import single_file_utils as theirs
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def clip(prefix: str) -> tuple[Any, Any]:
        model = CLIPTextModel(CLIPTextConfig(**parts.clip_config(shapes, prefix)))
        kept = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
        return model, kept

    def open_clip(prefix: str, kind: Any, dropped: int) -> tuple[Any, Any]:
        config = parts.open_clip_config(shapes, prefix, dropped)
        model = kind(CLIPTextConfig(**{**config, "pad_token_id": 0}))
        last = f"{prefix}transformer.resblocks.{config['num_hidden_layers']}."
        own = {n: v for n, v in weights.items() if n.startswith(prefix) and not (dropped and n.startswith(last))}
        return model, theirs.convert_open_clip_checkpoint(model, own, prefix)

    if family == "1":
        return {"text_encoder": clip(parts.CLIP_1)}
    if family == "2":
        return {"text_encoder": open_clip(parts.OPEN_2, CLIPTextModel, 1)}
    two = open_clip(parts.OPEN_XL, CLIPTextModelWithProjection, 0)
    return {"text_encoder": clip(parts.CLIP_XL), "text_encoder_2": two}


def _write_control(file: Path, shapes: Any, folder: Path) -> None:
    import diffusers
    from diffusers.loaders import single_file_utils as theirs
    from safetensors.torch import load_file

    weights = load_file(file)
    if not any(n.startswith(parts.CONTROL) for n in shapes):
        raise UserError(f"{file}: a ControlNet in diffusers' names: put it into a folder with its config.json")
    config = parts.unet_config(shapes, parts.CONTROL, not any("label_emb" in n for n in shapes))
    hints = [s for n, s in sorted(shapes.items()) if "input_hint_block" in n and n.endswith("weight")]
    config |= {"conditioning_embedding_out_channels": sorted({s[0] for s in hints} - {config["block_out_channels"][0]})}
    config = {k: v for k, v in config.items() if k not in ("up_block_types", "out_channels")}
    made = diffusers.ControlNetModel(**config)
    _fill(made, theirs.convert_controlnet_checkpoint(dict(weights), config=made.config), folder, file)


def _check_all_read(file: Path, shapes: Any, prefix: str, model: Any) -> None:
    """Refuse a file with more tensors of a network than the network has.

    Raises:
        UserError: says how many.
    """
    got, wanted = sum(name.startswith(prefix) for name in shapes), len(model.state_dict())
    if got != wanted:
        raise UserError(f"{file}: {got} tensors under {prefix} do not fit a network of {wanted}, by their shapes")


def _fill(model: Any, tensors: Any, folder: Path, file: Path) -> None:
    """Put tensors into a model and write it, in half precision where all of them are in it.

    Raises:
        UserError: one is missing, left over, or of another shape.
    """
    from muybridge.models.weights.opening import cast
    from muybridge.nn.resting import half_of

    kind = half_of(v.dtype for n, v in tensors.items() if not n.endswith(COUNTED))
    fitted = _without_prefix(model, {n: v.to(kind) if v.is_floating_point() else v for n, v in tensors.items()})
    cast(model, kind)
    try:
        found = model.load_state_dict(fitted, strict=False)
    except RuntimeError as error:
        raise UserError(f"{file}: its tensors do not fit a {type(model).__name__}: {str(error)[:300]}") from error
    left = [*found.missing_keys, *(n for n in found.unexpected_keys if not n.endswith(COUNTED))]
    if left:
        raise UserError(f"{file}: {left[0]} has no counterpart in a {type(model).__name__} of its shapes")
    model.save_pretrained(str(folder))


def _without_prefix(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Names as this version of transformers has them: with `text_model.` in front, or without."""
    prefixed = any(n.startswith("text_model.") for n in model.state_dict())
    plain: Callable[[str], str] = lambda n: n if prefixed else n.removeprefix("text_model.")  # noqa: E731
    return {plain(n): v for n, v in tensors.items()}


def _index(kind: str, family: str, xl: bool) -> dict[str, Any]:
    scheduler = parts.scheduler_config(family, "epsilon")["_class_name"]
    index: dict[str, Any] = {
        "_class_name": kind, "scheduler": ["diffusers", scheduler], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }  # fmt: skip
    if xl:
        index |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"], "force_zeros_for_empty_prompt": True,
        }  # fmt: skip
    return index
