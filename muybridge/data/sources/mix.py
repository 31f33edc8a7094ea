"""`mix`: several sources, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from muybridge.configuration import Settings, setting
from muybridge.errors import UserError

#: How often an epoch may show one source's clips.
MOST_TIMES = 10**6


@dataclass(frozen=True)
class MixConfig(Settings):
    """What is mixed."""

    where: ClassVar[str] = "data"

    of: tuple[dict[str, Any], ...] = setting(
        (),
        "a list of sources with their settings, and `times`: how often an epoch shows each clip of one (1 by default)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.of:
            raise UserError("data.of: a mix needs a list of sources with their settings (and `times`)")
        for part in self.of:
            times = part.get("times", 1)
            if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MOST_TIMES:
                raise UserError(f"data.of: `times` must be a whole number in 1..{MOST_TIMES}, got {times!r}")


Config = MixConfig


def open_source(config: MixConfig, split: str) -> Any:
    from muybridge.data.clips import MixedClips
    from muybridge.data.registry import make_source

    sources = [make_source({k: v for k, v in part.items() if k != "times"}, split) for part in config.of]
    return MixedClips(sources, [int(part.get("times", 1)) for part in config.of])
