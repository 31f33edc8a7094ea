"""The noise that a tuned model turns into its video, kept beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from muybridge.files import whole_file
from muybridge.library.catalogue import INVERSION

#: The one entry of the file's metadata: safetensors writes several in any order, and the same noise is the same bytes.
ABOUT = "muybridge"


def save_inversion(noise: Tensor, steps: int, folder: Path, found: str = "") -> None:
    """Keep noise [1, C, F, h, w] that was found in so many steps, and in words what else it was found with."""
    about = {ABOUT: json.dumps({"steps": steps, "found": found})}
    with whole_file(folder / INVERSION) as unfinished:
        save_file({"noise": noise.cpu().contiguous()}, unfinished, about)


def found_with(folder: Path) -> str:
    """What `save_inversion` was told of the noise that is there; "" where there is none, or an older version's."""
    if not (folder / INVERSION).is_file():
        return ""
    with safe_open(folder / INVERSION, "pt") as file:
        return str(_about(file).get("found", ""))


def read_inversion(folder: Path) -> tuple[Tensor, int | None]:
    """The noise and its number of steps; None where an older version did not keep it."""
    with safe_open(folder / INVERSION, "pt") as file:
        steps = _about(file).get("steps")
        return file.get_tensor("noise"), None if steps is None else int(steps)


def _about(file: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = file.metadata() or {}
    about: dict[str, Any] = json.loads(metadata[ABOUT]) if ABOUT in metadata else metadata
    return about
