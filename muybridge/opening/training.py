"""From a recipe's sections to the system that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muybridge.errors import UserError
from muybridge.learning.contract import System
from muybridge.models.text.encoder import TextConfig
from muybridge.opening.offers import offered


def build_system(
    name: str,
    model: Mapping[str, Any],
    diffusion: Mapping[str, Any],
    objective: Mapping[str, Any],
    text: TextConfig | None,
    distillation: Mapping[str, Any] | None = None,
) -> System:
    """A system from the sections of a recipe; with `distillation`, a student of one.

    Raises:
        UserError: an unknown system, or a section that it does not read.
    """
    cls = offered("TRAINS", name, "system")
    sections = {"diffusion": diffusion, "objective": objective}
    for other, settings in sections.items():
        if other != cls.section and settings:
            raise UserError(f"{other}: the system {name} has no such settings; it reads `{cls.section}`")
    made: System = cls(model, sections[cls.section], text)
    if distillation:
        from muybridge.learning.distillation import Distillation

        made = Distillation(made, distillation)
    return made
