"""Learned scores of clips: a scorer's embeddings, similarity to captions, a linear aesthetic head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.models.text.scorers import ImageTextScorer, open_scorer
from muybridge.nn.frames import from_uint8


def _tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 [h, w, 3] each -> [N, 3, h, w] in [-1, 1]."""
    return from_uint8(np.stack(pictures)).transpose(0, 1)


class EmbeddingScores:
    """Embeddings of first, middle and last picture; their fit to each caption; their aesthetics.

    Args:
        scorer: a bundled scorer's name or a folder.
        head: a safetensors file with a linear head, "" for none.
    """

    def __init__(self, scorer: str, head: str = ""):
        self.name = scorer
        self.scorer: ImageTextScorer = open_scorer(find_part(scorer))
        self.head: dict[str, torch.Tensor] = {}
        if head:
            from safetensors.torch import load_file

            self.head = load_file(head)
            if set(self.head) != {"weight", "bias"}:
                raise UserError(
                    f"{head}: expected the tensors weight and bias of a linear head, got {sorted(self.head)}"
                )

    def add(self, clip: dict[str, Any], pictures: Sequence[np.ndarray]) -> None:
        """Write the scores into a clip's record."""
        rows = self.scorer.embed_pictures(_tensor(pictures))
        clip["embedding"] = [round(v, 4) for v in torch.nn.functional.normalize(rows.mean(0), dim=0).tolist()]
        if self.head:
            values = rows @ self.head["weight"].float().T + self.head["bias"].float()
            clip["scores"]["aesthetic"] = round(float(values.min()), 4)
        texts = [c["text"] for c in clip["captions"]]
        if texts:
            fits = (rows @ self.scorer.embed_texts(texts).T).mean(0).tolist()
            for caption, fit in zip(clip["captions"], fits, strict=True):
                caption["similarity"] = round(fit, 4)
            clip["scores"]["similarity"] = round(max(fits), 4)
