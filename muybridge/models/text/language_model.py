"""A language model of transformers from a user's folder. Decoding is greedy: the same words in every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from muybridge.errors import UserError
from muybridge.models.weights.opening import open_encoder

MAX_TOKENS = 60


class LanguageModel:
    """Writes on: a causal model, or one that turns one text into another; asked as in a conversation where it holds
    them.

    Args:
        folder: with safetensors weights and a tokenizer; nothing is fetched.

    Raises:
        UserError: no such folder, or not a language model.
    """

    def __init__(self, folder: str):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        if not Path(folder).expanduser().exists():
            raise UserError(f"{folder}: nothing there; a language model is a folder of transformers on this machine")
        path = str(Path(folder).expanduser())
        try:
            config: Any = AutoConfig.from_pretrained(path, local_files_only=True)
            self.whole = not config.is_encoder_decoder
            kind: Any = AutoModelForCausalLM if self.whole else AutoModelForSeq2SeqLM
            self.model: Any = open_encoder(kind, Path(path))
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a language model of transformers: {error}") from error

    @torch.no_grad()
    def __call__(self, words: str) -> str:
        """What it writes when it is given these words, in one line."""
        if getattr(self.tokenizer, "chat_template", None):
            words = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": words}], tokenize=False, add_generation_prompt=True
            )
        inputs = self.tokenizer(words, return_tensors="pt")
        made = self.model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=MAX_TOKENS,
            do_sample=False,
        )  # fmt: skip
        if self.whole:
            made = made[:, inputs["input_ids"].shape[1] :]
        return " ".join(self.tokenizer.decode(made[0], skip_special_tokens=True).split())
