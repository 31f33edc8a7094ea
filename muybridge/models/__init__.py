"""Layer 3: networks, as diffusers models; text encoders."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from muybridge.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

#: The networks a recipe can name, by where they live.
NETWORKS = {
    "unet3d": ("muybridge.models.unet3d", "UNet3DModel"),
    "transformer": ("muybridge.models.transformer", "SpacetimeTransformer"),
}


def build_network(config: Mapping[str, Any]) -> nn.Module:
    """Build {"type": name, ...arguments}; a misspelt argument is an error that names the nearest one."""
    settings = dict(config)
    made: nn.Module = built(network_class(settings.pop("type")), settings)
    return made


def network_class(kind: str) -> type:
    """The class of a network's type."""
    module, name = NETWORKS[kind]
    made: type = getattr(importlib.import_module(module), name)
    return made


def built(cls: type, settings: Mapping[str, Any]) -> Any:
    """A network of these arguments.

    Raises:
        UserError: an argument that its class does not have (the nearest one is named), or that it refuses.
    """
    known = [p for p in inspect.signature(cls.__init__).parameters if p != "self"]  # type: ignore[misc]
    for key in settings:
        if key not in known:
            raise UserError(f"model: unknown key {key!r}; {nearest(key, known)}")
    if cls.__module__.startswith("muybridge."):  # diffusers' own classes have their own rules
        from muybridge.models.arguments import check_arguments

        check_arguments(settings)
    try:
        return cls(**settings)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError, IndexError) as error:
        raise UserError(f"model: {error}") from error
