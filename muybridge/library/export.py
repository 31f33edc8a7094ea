"""A bundled image model as a whole diffusers folder, text encoder and tokenizer included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import whole_folder, write_json
from muybridge.library.catalogue import check_weights, find_model
from muybridge.library.index import INDEX, index_of, settings_of
from muybridge.models.text.encoder import TextConfig, TextEncoder


def export_diffusers(name: str, target: Path) -> Path:
    """Write a folder that diffusers' own StableDiffusionPipeline loads without muybridge.

    Args:
        name: a bundled image model or the folder of one.
        target: a new folder; it appears whole or not at all.

    Raises:
        UserError: no image model, or a target that exists.
    """
    folder = find_model(name)
    index = index_of(folder)
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise UserError(f"{name}: a {index.get('_class_name')}; only image models have diffusers' own layout")
    check_weights(folder, index)
    if target.exists():
        raise UserError(f"{target}: is there already; choose a new folder")
    settings = settings_of(folder)
    config = TextConfig(settings["text_encoder"], settings["text_max_length"])
    encoder = TextEncoder(config)
    with whole_folder(target, "a model") as unfinished:
        _write(folder, index, encoder, config, unfinished)
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
