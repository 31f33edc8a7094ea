"""Frozen dataclasses from plain mappings (YAML, JSON), strictly: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from muybridge.errors import UserError, nearest

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any] | None, where: str) -> T:
    """Build a dataclass from a mapping, checking names and types; nested dataclasses are built the same way.

    Args:
        where: the place in the file, for messages ("training", "data").

    Raises:
        UserError: unknown or missing key, or a value of another type.
    """
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys and values, got {type(values).__name__} {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(str(key), fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    return cls(**{key: _convert(value, hints[key], f"{where}.{key}") for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(value, next(o for o in options if o is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: expected a list, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(v, item, where) for v in value)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected keys and values, got {value!r}")
        return dict(value)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON-able values."""
    return dataclasses.asdict(config)
