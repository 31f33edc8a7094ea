"""What the packages of this project offer by name. A package names its own classes; nothing else lists them.

A package under `systems/`, and `parts` and `pipelines` themselves, may hold in their `__init__`

    TRAINS = {"vdm": "training:VDM"}                      # a name in a recipe's `system` -> module and class
    OPENS = {"TextToVideoPipeline": "pixels:TextToVideoPipeline"}   # _class_name in model_index.json -> pipeline class

with modules relative to the package. These files are light: a class is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from muybridge.errors import UserError, nearest


def offers(kind: str) -> dict[str, str]:
    """Every name of a kind ("TRAINS" or "OPENS") and where its class is, "module:Class".

    Raises:
        RuntimeError: two packages that offer one name.
    """
    import muybridge.systems

    packages = ["muybridge.parts", "muybridge.pipelines"]
    packages += [f"muybridge.systems.{found.name}" for found in pkgutil.iter_modules(muybridge.systems.__path__)]
    out: dict[str, str] = {}
    for package in packages:
        for name, place in getattr(importlib.import_module(package), kind, {}).items():
            if name in out:
                raise RuntimeError(f"{name!r} is offered twice: by {out[name]} and by {package}")
            out[name] = f"{package}.{place}"
    return out


def offered(kind: str, name: str, what: str) -> Any:
    """The class of a name.

    Args:
        what: in words, for the message ("system", "model").

    Raises:
        UserError: nobody offers it.
    """
    found = offers(kind)
    if name not in found:
        raise UserError(f"{what}: unknown {name!r}; {nearest(name, found)}")
    module, _, cls = found[name].partition(":")
    return getattr(importlib.import_module(module), cls)
