"""Data sources by name, from a recipe's `data` section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from muybridge.configuration import from_mapping
from muybridge.data.clips import ClipSource, MixedClips
from muybridge.errors import UserError, nearest

SOURCES = ("world", "emoji", "folder", "composites", "one_video", "camera", "mix")


def make_source(settings: Mapping[str, Any], split: str = "train") -> ClipSource:
    """Build {"source": name, ...settings} for one split ("train" or "validation").

    Raises:
        UserError: unknown source or setting, or data that is not there.
    """
    values = dict(settings)
    name = values.pop("source", None)
    if name not in SOURCES:
        raise UserError(f"data.source: unknown {name!r}; {nearest(str(name), SOURCES)}")
    if name == "world":
        from muybridge.data.world import WorldConfig, WorldSource

        config = from_mapping(WorldConfig, values, "data")
        return WorldSource(config if split == "train" else replace(config, split=split))
    if name == "mix":
        parts = values.pop("of", None)
        if values or not isinstance(parts, list) or not parts:
            raise UserError("data: a mix has one setting, `of`: a list of sources with their settings (and `times`)")
        times = [part.get("times", 1) for part in parts]
        sources = [make_source({k: v for k, v in part.items() if k != "times"}, split) for part in parts]
        return MixedClips(sources, times)
    if name == "camera":
        from muybridge.data.camera import make_camera

        return make_camera(values, split)
    if name == "emoji":
        from muybridge.data.emoji import EmojiConfig, EmojiSource

        return EmojiSource(replace(from_mapping(EmojiConfig, values, "data"), split=split))
    if name == "composites":
        from muybridge.data.composites import CompositesConfig, CompositesSource

        return CompositesSource(replace(from_mapping(CompositesConfig, values, "data"), split=split))
    if name == "one_video":
        from muybridge.data.one_video import OneVideoConfig, OneVideoSource

        return OneVideoSource(from_mapping(OneVideoConfig, values, "data"))
    from muybridge.data.folder import FolderConfig, FolderSource

    return FolderSource(replace(from_mapping(FolderConfig, values, "data"), split=split))
