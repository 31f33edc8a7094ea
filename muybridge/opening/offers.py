"""What the packages of this project offer by name. A package names its own classes; nothing else lists them.

A package under `systems/`, and `parts` and `pipelines` themselves, may hold in their `__init__`

    TRAINS = {"vdm": "training:VDM"}                      # a name in a recipe's `system` -> module and class
    OPENS = {"TextToVideoPipeline": "pixels:TextToVideoPipeline"}   # _class_name in model_index.json -> pipeline class
    KNOWS = {"TextToVideoPipeline": ("muybridge text-to-video model", "generate --model")}   # what it is, what takes it

with modules relative to the package. `KNOWS` also names parts that have no pipeline, by _class_name in config.json.
These files are light: a class is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from muybridge.errors import UserError, nearest


def offers(kind: str) -> dict[str, Any]:
    """Every name of a kind: where its class is, "package.module:Class", or what a package says of it ("KNOWS").

    Raises:
        RuntimeError: two packages that offer one name.
    """
    import muybridge.systems

    packages = ["muybridge.parts", "muybridge.pipelines"]
    packages += [f"muybridge.systems.{found.name}" for found in pkgutil.iter_modules(muybridge.systems.__path__)]
    out: dict[str, Any] = {}
    for package in packages:
        for name, said in getattr(importlib.import_module(package), kind, {}).items():
            if name in out:
                raise RuntimeError(f"{name!r} is offered twice: by {out[name]} and by {package}")
            out[name] = f"{package}.{said}" if isinstance(said, str) else said
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
