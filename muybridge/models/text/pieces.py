"""Captions that are longer than a CLIP text encoder reads at once: cut into pieces that are read one by one, and
attended to together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from muybridge.nn.text_conditioning import TextCondition


@dataclass(frozen=True)
class Piece:
    """Part of a caption: its token ids, without what a tokenizer puts around them."""

    ids: tuple[int, ...]

    def encoded(self, tokenizer: Any, length: int, device: Any) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` [1, length]: start, the ids, end, padding."""
        ids = [tokenizer.bos_token_id, *self.ids, tokenizer.eos_token_id]
        padded = ids + [tokenizer.pad_token_id] * (length - len(ids))
        mask = [1] * len(ids) + [0] * (length - len(ids))
        return {
            "input_ids": torch.tensor([padded], device=device),
            "attention_mask": torch.tensor([mask], device=device),
        }


def ids_of(tokenizer: Any, caption: str) -> list[int]:
    """All tokens of a caption, without start and end; a tokenizer's own warning that they are too many is for those who
    give them to a model at once."""
    ids: list[int] = tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def pieces_of(tokenizer: Any, caption: str, length: int) -> list[Piece]:
    """A caption in pieces of at most `length` tokens, start and end among them; one for a caption that fits."""
    room = length - 2
    ids = ids_of(tokenizer, caption)
    return [Piece(tuple(ids[i : i + room])) for i in range(0, max(1, len(ids)), room)]


def whole(parts: Sequence[TextCondition]) -> TextCondition:
    """The tokens of all pieces one after another; the pooled vector is the first piece's."""
    tokens, mask = (torch.cat([getattr(p, name) for p in parts], 1) for name in ("tokens", "mask"))
    return TextCondition(parts[0].pooled, tokens, mask)
