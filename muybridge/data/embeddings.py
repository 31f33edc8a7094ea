"""Caption embeddings, computed once for a whole data set and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from muybridge.data.latents import read_table
from muybridge.files import sha256_of, whole_file
from muybridge.models.text.encoder import TextConfig, open_text_encoder
from muybridge.models.weights.adapters.option import split_lora
from muybridge.nn.text_conditioning import TextCondition

BATCH = 32
#: What stands for "no caption" in Stable Diffusion's layout.
NULL_CAPTION = ""


class CaptionEmbeddings:
    """Embeddings of a known set of captions and of the empty one, half precision on disk.

    The file is named after the encoder and the captions, so that a changed data set never meets stale embeddings, and
    written whole under a temporary name first. Captions are embedded in one fixed order, so that a run that was killed
    while embedding ends with the same numbers.
    """

    def __init__(
        self,
        captions: Sequence[str],
        config: TextConfig,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        device: torch.device | str = "cpu",
    ):
        unique = sorted({NULL_CAPTION, *captions}, key=lambda c: (len(c), c))
        self._row = {caption: i for i, caption in enumerate(unique)}
        loras = [f"{text} {sha256_of(Path(split_lora(text)[0]))}" for text in config.lora]
        told = [config.encoder, str(config.max_length), *loras, *unique]
        key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:20]
        self.path = folder / f"captions-{key}.safetensors"
        table = read_table(self.path)
        if table is None:
            self._build(unique, config, progress, device)
            table = load_file(self.path)
        self._table = table

    def _build(
        self,
        unique: list[str],
        config: TextConfig,
        progress: Callable[[int, int], None] | None,
        device: torch.device | str,
    ) -> None:
        encoder = open_text_encoder(config, device)
        parts: dict[str, list[torch.Tensor]] = {"pooled": [], "tokens": [], "mask": []}
        for start in range(0, len(unique), BATCH):
            condition = encoder(unique[start : start + BATCH], allow_empty=True)
            parts["pooled"].append(condition.pooled.half())
            parts["tokens"].append(condition.tokens.half())
            parts["mask"].append(condition.mask)
            if progress:
                progress(min(start + BATCH, len(unique)), len(unique))
        with whole_file(self.path) as unfinished:
            save_file({name: torch.cat(values) for name, values in parts.items()}, unfinished)

    def __call__(self, captions: Sequence[str]) -> TextCondition:
        """Look up captions of the set, float32."""
        rows = torch.tensor([self._row[c] for c in captions])
        return TextCondition(
            self._table["pooled"][rows].float(), self._table["tokens"][rows].float(), self._table["mask"][rows]
        )
