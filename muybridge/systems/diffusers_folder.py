"""A bundled image model as a whole diffusers folder, text encoder and tokenizer included."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import whole_folder
from muybridge.models.text_encoder import TextConfig, TextEncoder
from muybridge.systems.model_folders import check_weights, find_model


def export_diffusers(name: str, target: Path) -> Path:
    """Write a folder that diffusers' own StableDiffusionPipeline loads without muybridge.

    Args:
        name: a bundled image model or the folder of one.
        target: a new folder; it appears whole or not at all.

    Raises:
        UserError: no image model, or a target that exists.
    """
    folder = find_model(name)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise UserError(f"{name}: a {index.get('_class_name')}; only image models have diffusers' own layout")
    check_weights(folder, index)
    if target.exists():
        raise UserError(f"{target}: is there already; choose a new folder")
    settings = json.loads((folder / "muybridge.json").read_text(encoding="utf-8"))
    config = TextConfig(settings["text_encoder"], settings["text_max_length"])
    encoder = TextEncoder(config)
    with whole_folder(target, (), "an exported model") as unfinished:
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
    (unfinished / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
