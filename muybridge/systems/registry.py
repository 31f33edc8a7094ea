"""The systems that can be trained, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.models.text_encoder import TextConfig
from muybridge.systems.contract import System
from muybridge.systems.vdm import VDM

SYSTEMS = {"vdm": VDM}


def make_system(
    name: str, model: Mapping[str, Any], diffusion: Mapping[str, Any] | None, text: TextConfig | None
) -> System:
    if name not in SYSTEMS:
        raise UserError(f"system: unknown {name!r}; {nearest(name, SYSTEMS)}")
    return SYSTEMS[name](model, diffusion, text)
