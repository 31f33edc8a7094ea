"""Textual inversions: words that were learned as rows of a CLIP text encoder's embedding table (2208.01618)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from muybridge.errors import UserError
from muybridge.files import sha256_of
from muybridge.models.weights.found import PICKLES, shapes_of

#: Names of the tensor in files that do not hold the word: of A1111 and its kin, and of its two halves for XL.
NAMELESS = ("emb_params",)
HALVES = ("clip_l", "clip_g")


def read_inversion(file: Path, token: str = "") -> tuple[str, list[Tensor]]:
    """The word, and its vectors [n, D] for each text encoder, float32.

    Args:
        token: the word that a prompt names it by; by default what the file says, else its name.

    Raises:
        UserError: pickled, damaged, or of another form.
    """
    if file.suffix.lower() in PICKLES:
        raise UserError(f"{file}: pickled weights can run code when opened and are refused; convert it to safetensors")
    if not file.is_file():
        raise UserError(f"{file}: no textual inversion there")
    shapes_of(file)
    tensors = {k: v.float() for k, v in load_file(file).items()}
    names = set(tensors)
    if names == set(HALVES):
        found = [tensors[name] for name in HALVES]
    elif len(names) == 1:
        name = next(iter(names))
        found, token = [tensors[name]], token or ("" if name in NAMELESS else name)
    else:
        raise UserError(
            f"{file}: expected one tensor (a word's), emb_params, or {' and '.join(HALVES)}; it holds {len(names)}"
        )
    rows = [vectors[None] if vectors.ndim == 1 else vectors for vectors in found]
    if any(vectors.ndim != 2 for vectors in rows):
        raise UserError(f"{file}: a word's vectors are [n, D], got {tuple(rows[0].shape)}")
    return token or file.stem, rows


class Inversions:
    """The words that a text encoder has learned.

    Attributes:
        spellings: word -> the tokens that stand for it, one a vector.
    """

    def __init__(self) -> None:
        self.spellings: dict[str, str] = {}

    def spelled(self, caption: str) -> str:
        """A caption with every learned word written as its tokens."""
        for word, tokens in self.spellings.items():
            caption = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", tokens, caption)
        return caption

    @torch.no_grad()
    def learn(self, file: Path, token: str, encoders: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """Take a file's word into the vocabulary of each (tokenizer, encoder); returns what a record holds of it.

        Raises:
            UserError: `read_inversion`, another number of encoders or width, or a word that is there already.
        """
        word, vectors = read_inversion(file, token)
        if len(vectors) != len(encoders):
            raise UserError(f"{file}: has vectors for {len(vectors)} text encoders, this model has {len(encoders)}")
        tokens = [word, *(f"{word}_{i}" for i in range(1, len(vectors[0])))]
        for (tokenizer, encoder), rows in zip(encoders, vectors, strict=True):
            table = encoder.get_input_embeddings().weight
            if rows.shape[1] != table.shape[1]:
                raise UserError(
                    f"{file}: its vectors have {rows.shape[1]} values, this model's text encoder {table.shape[1]}"
                )
            vocabulary = tokenizer.get_vocab()
            if any(t in vocabulary or f"{t}</w>" in vocabulary for t in tokens):
                raise UserError(f"{file}: the word {word!r} is in the vocabulary already; name another, FILE:WORD")
            tokenizer.add_tokens(tokens)
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            table = encoder.get_input_embeddings().weight
            table[tokenizer.convert_tokens_to_ids(tokens)] = rows.to(table)
        self.spellings[word] = " ".join(tokens)
        return {"file": str(file.resolve()), "token": word, "sha256": sha256_of(file)}
