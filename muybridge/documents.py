"""Files of settings as they are read, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.configuration import shown
from muybridge.errors import UserError

#: A file of settings is nested at most this deep, and its whole numbers fit into 64 bits.
DEEPEST, LARGEST = 32, 2**63 - 1
#: Entries at one depth; aliases (`*name`) count wherever they stand, so that a small file is not billions of them.
MOST_ENTRIES = 1_000_000


def check_document(values: Any, where: str) -> None:
    """Refuse what no file of settings holds, before anything is made of it.

    Args:
        values: as read from YAML or JSON.
        where: the file, for messages.

    Raises:
        UserError: nested too deep, more than MOST_ENTRIES entries, a number that is not finite, or one that does not
            fit into 64 bits.
    """
    level = [(where, values)]
    for _ in range(DEEPEST):
        inner: list[tuple[str, Any]] = []
        for place, value in level:
            if isinstance(value, Mapping):
                inner += [(f"{place}.{shown(key)}", item) for key, item in value.items()]
            elif isinstance(value, (list, tuple)):
                inner += [(place, item) for item in value]
            elif isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{place} must be a finite number, got {value}")
            elif isinstance(value, int) and abs(value) > LARGEST:
                raise UserError(f"{place}: {shown(value)} is too large a number; whole numbers fit into 64 bits")
            if len(inner) > MOST_ENTRIES:
                raise UserError(f"{where}: more than {MOST_ENTRIES:,} entries, aliases counted wherever they stand")
        level = inner
    if level:
        raise UserError(f"{where}: nested more than {DEEPEST} deep")


def read_yaml(path: Path, what: str = "recipe") -> dict[str, Any]:
    """The keys and values of a YAML file.

    Args:
        what: it is, for messages.

    Raises:
        UserError: no such file, not YAML, or not keys and values.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {what} at {path}") from None
    except RecursionError:
        raise UserError(f"{path}: nested more than {DEEPEST} deep") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no text, or a number of thousands of digits
        raise UserError(f"{path}: not a readable YAML {what}: {error}") from error
    check_document(values, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, got {type(values).__name__} {shown(values)}")
    found: dict[str, Any] = values
    return found
