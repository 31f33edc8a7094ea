"""Stable Diffusion XL's words: two CLIP text encoders side by side, and one pooled embedding (spec 14, 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muybridge.files import read_mapping
from muybridge.models.text.encoder import TextConfig, TextEncoder, load_tokenizer
from muybridge.models.text.inversions import Inversions
from muybridge.models.text.pieces import Piece
from muybridge.models.weights.adapters.names import TEXT, TEXT_2
from muybridge.models.weights.opening import open_encoder
from muybridge.nn.text_conditioning import TextCondition


class XLTextEncoder(TextEncoder):
    """Embeds captions with both encoders of a Stable Diffusion XL folder: tokens are the last but one layer's states of
    both, [B, L, D1 + D2]; pooled is the second one's text embedding.

    Args:
        config: `encoder` is the model's folder.
        device: where they run; results are on the CPU.

    Attributes:
        empty_is_zero: no negative prompt is zeros, not the empty caption (`force_zeros_for_empty_prompt`).
    """

    def __init__(self, config: TextConfig, device: str | torch.device = "cpu"):
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        folder = Path(config.encoder).expanduser()
        self.config, self.device = config, device
        self.clip_pooling, self.reads_padding, self.inversions = True, False, Inversions()
        self.tokenizers, self.models = [], []
        for name, kind in ((TEXT, CLIPTextModel), (TEXT_2, CLIPTextModelWithProjection)):
            part = folder / name
            self.models.append(open_encoder(kind, part))
            self.tokenizers.append(load_tokenizer(part))
        if config.lora:
            from muybridge.models.weights.lora import apply_text_halves

            apply_text_halves(self.clip_models(), config.lora)
        for model in self.models:
            model.to(device)
        self.tokenizer = self.tokenizers[0]
        self.width = sum(int(model.config.hidden_size) for model in self.models)
        index = read_mapping(folder / "model_index.json")
        self.empty_is_zero = bool(index.get("force_zeros_for_empty_prompt", True))

    def clip_models(self) -> dict[str, Any]:
        return dict(zip((TEXT, TEXT_2), self.models, strict=True))

    def _read(self, captions: Sequence[str] | Piece) -> TextCondition:
        halves = [self._half(tokenizer, model, captions) for tokenizer, model in self._pairs()]
        tokens = torch.cat([tokens for tokens, _, _ in halves], -1)
        return TextCondition(halves[1][1].cpu(), tokens.cpu(), halves[0][2].cpu())

    def _pairs(self) -> list[tuple[Any, Any]]:
        return list(zip(self.tokenizers, self.models, strict=True))

    def _half(self, tokenizer: Any, model: Any, captions: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, L, D] of one encoder, its first output (pooled, or projected), and the mask."""
        encoded = self._encoded(captions, tokenizer)
        output = model(input_ids=encoded["input_ids"], output_hidden_states=True)
        return output.hidden_states[-2].float(), output[0].float(), encoded["attention_mask"].bool()

    def learn(self, file: Path, token: str = "") -> dict[str, Any]:
        return self.inversions.learn(file, token, self._pairs())

    def identity(self) -> str:
        return f"{self.config.encoder}/{self.config.max_length}/{self.width}/xl"
