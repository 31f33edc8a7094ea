"""FILE or FILE:SCALE, as `--lora` and recipes have it; light."""

from __future__ import annotations

import re

from muybridge.errors import UserError

#: PEFT's own name of an adapter's weights.
PEFT_FILE = "adapter_model.safetensors"
MOST = 100


def split_lora(text: str) -> tuple[str, float]:
    """ "FILE" or "FILE:SCALE" -> file and scale.

    Raises:
        UserError: a scale that no LoRA is meant for.
    """
    path, _, last = text.rpartition(":")
    if not path or re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", last) is None:
        return text, 1.0
    if abs(float(last)) > MOST:
        raise UserError(f"--lora {text}: a scale is a number from -{MOST} to {MOST}")
    return path, float(last)
