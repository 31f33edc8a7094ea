"""`emoji`: captioned animated loops (Fluent) and captioned stills in six styles, built from their npm packages.

`muybridge data build emoji` fetches the packages with the npm client (or takes them from a folder), decodes them once
into a compact store, and keeps the licences beside it. Captions are the Unicode names; sex and skin-tone variants of
one caption share a group and so a split.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from muybridge.data.npm import fetch_archive, read_member, read_members
from muybridge.data.packs import STORE, PackedClip, PackedSource, build_pack
from muybridge.data.sources.emoji import KINDS, SVG_SETS, EmojiConfig
from muybridge.errors import UserError, nearest
from muybridge.files import cache_folder, check_replaceable

ANIMATIONS = tuple(f"@lobehub/fluent-emoji-anim-{i}@1.0.0" for i in (1, 2, 3, 4))
STILLS_3D = "@lobehub/fluent-emoji-3d@1.1.0"
NAMES = "emojibase-data@17.0.0"
LICENCES = {
    "fluent.txt": "Fluent emoji, animated and 3D: MIT License, Copyright (c) Microsoft Corporation; packaged by "
    "LobeHub (MIT).\n",
    **{f"{style}.txt": f"{package}: {licence}\n" for package, (style, licence) in SVG_SETS.items()},
    "emojibase.txt": "emojibase-data: MIT License, Copyright (c) Miles Johnson.\n",
}


class EmojiSource(PackedSource):
    """Clips of the emoji store."""

    def __init__(self, config: EmojiConfig):
        store = Path(config.store).expanduser() if config.store else default_store(config.kind)
        super().__init__(
            store,
            config.split,
            config.num_frames,
            config.background,
            True,
            config.with_style,
            styles=config.styles,
            each_frame=config.each_frame,
        )

    def names(self) -> list[str]:
        """What its captions call things, each once, without the style."""
        return sorted({self.entries[i].caption for i, _ in self.clips})


def default_store(kind: str) -> Path:
    return cache_folder() / f"emoji-{kind}"


def build_emoji(
    kind: str,
    store: Path | None = None,
    packages: Path | None = None,
    size: int = 64,
    frames: int = 16,
    skin_tones: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Build one kind of emoji data; returns the store.

    Args:
        packages: a folder with the npm archives (`npm pack`'s .tgz files); those missing are fetched into it.
        size: pixels a side.
        frames: frames kept of each loop.
        skin_tones: keep the skin-tone variants.

    Raises:
        UserError: npm is not there, or a package is damaged.
    """
    if kind not in KINDS:
        raise UserError(f"unknown emoji data {kind!r}; {nearest(kind, KINDS)}")
    store = store or default_store(kind)
    check_replaceable(store, STORE, f"emoji {kind}")  # before anything is fetched
    packages = packages or cache_folder() / "npm"
    packages.mkdir(parents=True, exist_ok=True)
    names = _names(fetch_archive(NAMES, packages))
    report: list[dict[str, str]] = []
    tell = progress or (lambda what, done, total: None)
    if kind == "animations":
        clips = _animations(packages, names, size, frames, skin_tones, report, tell)
    else:
        clips = _stills(packages, names, size, skin_tones, report, tell)
    build_pack(
        store, clips, report, LICENCES,
        {"kind": kind, "size": size, "frames": frames, "skin_tones": skin_tones},
        f"emoji {kind}",
    )  # fmt: skip
    return store


# --- captions -------------------------------------------------------------------------------------------------------

_PEOPLE = {"man": "person", "woman": "person", "men": "people", "women": "people", "boy": "child", "girl": "child"}
_PEOPLE |= {"prince": "royal", "princess": "royal", "mermaid": "merperson", "merman": "merperson"}


def group_of(caption: str) -> str:
    """The caption without sex and skin tone: variants of one thing share it, and so a split.

    "woman rowing boat: dark skin tone" and "man rowing boat" both give "person rowing boat".
    """
    bare = re.sub(r":? *(light|medium-light|medium|medium-dark|dark) skin tone,? *", "", caption.lower())
    return " ".join(_PEOPLE.get(word, word) for word in re.findall(r"[\w'-]+", bare))


class Named(NamedTuple):
    """What emojibase says of an emoji; `kind` is "flag", "tone" (a skin-tone variant) or ""."""

    caption: str
    kind: str
    tags: tuple[str, ...]
    category: str


Names = dict[str, Named]


def _names(archive: Path) -> Names:
    """By code points ("1f98a", without fe0f)."""
    data = json.loads(read_member(archive, "package/en/data.json"))
    out: Names = {}
    for entry in data:
        tags = tuple(entry.get("tags", ()))
        category = f"{entry['group']}/{entry['subgroup']}" if "subgroup" in entry else ""
        kind = "flag" if entry.get("group") == 9 else ""
        out[_code(entry["hexcode"])] = Named(entry["label"], kind, tags, category)
        for skin in entry.get("skins", []):
            out[_code(skin["hexcode"])] = Named(skin["label"], "tone", tags, category)
    return out


def _code(name: str) -> str:
    return name.lower().replace("-fe0f", "")


# --- decoding -------------------------------------------------------------------------------------------------------

Found = Iterator[tuple[PackedClip, np.ndarray]]
Tell = Callable[[str, int, int], None]


def _named(names: Names, code: str, origin: str, skin_tones: bool, report: list[dict[str, str]]) -> Named | None:
    found = names.get(_code(code))
    reason = ""
    if found is None:
        reason = "no caption in emojibase"
    elif found.kind == "flag":
        reason = "a flag"
    elif found.kind == "tone" and not skin_tones:
        reason = "a skin-tone variant"
    if reason:
        report.append({"file": f"{origin}/{code}", "action": "dropped", "reason": reason})
        return None
    return found


def _entry(named: Named, shape: tuple[int, int, int, int], fps: float, package: str, style: str) -> PackedClip:
    caption, _, tags, category = named
    return PackedClip(caption, group_of(caption), shape, fps, package, style, tags=tags, category=category)


def _animations(
    packages: Path,
    names: Names,
    size: int,
    count: int,
    skin_tones: bool,
    report: list[dict[str, str]],
    tell: Tell,
) -> Found:
    from PIL import Image

    for number, package in enumerate(ANIMATIONS):
        tell(package, number, len(ANIMATIONS))
        for code, data in read_members(fetch_archive(package, packages), ".webp"):
            named = _named(names, code, package, skin_tones, report)
            if named is None:
                continue
            with Image.open(io.BytesIO(data)) as picture:
                available = getattr(picture, "n_frames", 1)
                if available < 2:
                    report.append({"file": f"{package}/{code}", "action": "dropped", "reason": "not animated"})
                    continue
                wanted = set(np.linspace(0, available, count, endpoint=False).astype(int).tolist())
                frames, milliseconds = [], 0
                for i in range(available):
                    picture.seek(i)
                    milliseconds += int(picture.info.get("duration", 42))
                    if i in wanted:
                        frames.append(np.asarray(picture.convert("RGBA").resize((size, size), Image.Resampling.BOX)))
            if len(frames) < count:
                report.append(
                    {
                        "file": f"{package}/{code}",
                        "action": "dropped",
                        "reason": f"{available} frames, fewer than {count}",
                    }
                )
                continue
            clip = np.stack(frames)
            fps = 1000 * count / milliseconds
            yield _entry(named, (count, size, size, 4), fps, package, "fluent"), clip


def _stills(
    packages: Path,
    names: Names,
    size: int,
    skin_tones: bool,
    report: list[dict[str, str]],
    tell: Tell,
) -> Found:
    from PIL import Image

    total = 1 + len(SVG_SETS)
    tell(STILLS_3D, 0, total)
    for code, data in read_members(fetch_archive(STILLS_3D, packages), ".webp"):
        named = _named(names, code, STILLS_3D, skin_tones, report)
        if named is not None:
            with Image.open(io.BytesIO(data)) as picture:
                pixels = np.asarray(picture.convert("RGBA").resize((size, size), Image.Resampling.BOX))[None]
            yield _entry(named, (1, size, size, 4), 8.0, STILLS_3D, "fluent"), pixels
    for number, (package, (style, _)) in enumerate(SVG_SETS.items(), 1):
        tell(package, number, total)
        archive = fetch_archive(package, packages)
        icons = json.loads(read_member(archive, "package/icons.json"))
        for code, name in _codes_of(archive, icons, names).items():
            named = _named(names, code, package, skin_tones, report)
            if named is not None:
                pixels = _render(icons, icons["icons"][name], size)[None]
                yield _entry(named, (1, size, size, 4), 8.0, package, style), pixels


def _codes_of(archive: Path, icons: dict[str, Any], names: Names) -> dict[str, str]:
    """Code point -> icon name: from chars.json, or for sets without one by the caption as a slug."""
    try:
        chars = json.loads(read_member(archive, "package/chars.json"))
    except UserError:
        slugs = {re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-"): code for code, (caption, *_) in names.items()}
        return {slugs[icon]: icon for icon in icons["icons"] if icon in slugs}
    return {code: icon for code, icon in chars.items() if icon in icons["icons"]}


def _render(icons: dict[str, Any], icon: dict[str, Any], size: int) -> np.ndarray:
    try:
        import resvg_py
    except ImportError:
        raise UserError("drawing the stills needs resvg-py: pip install 'muybridge[emoji]'") from None
    from PIL import Image

    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{size}" height="{size}">{icon["body"]}</svg>'
    )
    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))) as picture:
        drawn = picture.convert("RGBA")
    return np.asarray(drawn if drawn.size == (size, size) else drawn.resize((size, size)))
