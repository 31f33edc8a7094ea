"""CLIP's vocabulary for models that come without a tokenizer: of a folder, or of an installed package's table."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.models.weights.packaged import package_folder

#: A folder with vocab.json and merges.txt.
VARIABLE = "MUYBRIDGE_CLIP_TOKENIZER"
#: Packages that hold the table of merges, and its name there; their code is never imported.
PACKAGES, MEMBER = ("open_clip", "clip"), "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
#: Merges that CLIP takes of the table: with 2 x 256 bytes and two marks, 49,408 tokens.
MERGES = 49_152 - 256 - 2


def write_tokenizer(folder: Path, pad: str = END) -> int:
    """Write a CLIPTokenizer's files; returns the number of tokens.

    Args:
        pad: what captions are filled with: the end mark (1.x), or "!" (2.x and XL's second encoder).

    Raises:
        UserError: neither a folder nor a package holds the vocabulary.
    """
    vocabulary, merges = _vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{m}\n" for m in merges), encoding="utf-8")
    special: dict[str, Any] = {"bos_token": START, "eos_token": END, "pad_token": pad, "unk_token": END}
    settings = {**special, "do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    return len(vocabulary)


def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> its number, and the merges in order."""
    given = os.environ.get(VARIABLE)
    if given:
        folder = Path(given).expanduser()
        if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
            raise UserError(f"{VARIABLE}: no vocab.json and merges.txt in {folder}")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line and not line.startswith("#version")]
        return json.loads((folder / "vocab.json").read_text(encoding="utf-8")), merges
    for package in PACKAGES:
        place = package_folder(package)
        if place is not None and (place / MEMBER).is_file():
            with gzip.open(place / MEMBER, "rt", encoding="utf-8") as table:
                merges = table.read().splitlines()[1 : MERGES + 1]
            letters = [_letter(byte) for byte in _bytes_in_order()]
            names = [*letters, *(f"{c}</w>" for c in letters), *("".join(m.split()) for m in merges), START, END]
            return {name: i for i, name in enumerate(names)}, merges
    raise UserError(
        "this file has no tokenizer, and CLIP's vocabulary is not here: give a folder with its vocab.json and "
        f"merges.txt in {VARIABLE} (the tokenizer/ of any Stable Diffusion folder), or `pip install --no-deps "
        "open_clip_torch`, whose table of merges is read"
    )


def _bytes_in_order() -> list[int]:
    """Bytes that are printed as they are first, then the others, as GPT-2 numbers them."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*printed, *(byte for byte in range(256) if byte not in printed)]


def _letter(byte: int) -> str:
    """The letter that stands for a byte; bytes that are not printed have those from 256 on."""
    order = _bytes_in_order()
    place = order.index(byte)
    return chr(byte) if place < 188 else chr(256 + place - 188)
