"""Data sources by name, from a recipe's `data` section: each is a module of `data.sources`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from muybridge.configuration import Settings, from_mapping
from muybridge.data import sources
from muybridge.data.clips import ClipSource
from muybridge.errors import UserError, nearest


def source_names() -> tuple[str, ...]:
    """Every source that a recipe can name."""
    return tuple(found.name for found in pkgutil.iter_modules(sources.__path__))


def source_module(name: Any) -> Any:
    """The module of a source: its `Config` and `open_source`.

    Raises:
        UserError: there is no such source; the nearest one is named.
    """
    known = source_names()
    if name not in known:
        raise UserError(f"data.source: unknown {name!r}; {nearest(str(name), known)}")
    return importlib.import_module(f"{sources.__name__}.{name}")


def source_settings(settings: Mapping[str, Any]) -> Settings:
    """{"source": name, ...settings} checked, and nothing opened.

    Raises:
        UserError: an unknown source or setting, or a value out of range.
    """
    values = dict(settings)
    made: Settings = from_mapping(source_module(values.pop("source", None)).Config, values, "data")
    return made


def make_source(settings: Mapping[str, Any], split: str = "train") -> ClipSource:
    """Open {"source": name, ...settings} for one split ("train" or "validation").

    Raises:
        UserError: unknown source or setting, or data that is not there.
    """
    config = source_settings(settings)
    opened: ClipSource = source_module(settings["source"]).open_source(config, split)
    return opened
