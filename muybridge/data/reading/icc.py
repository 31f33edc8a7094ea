"""Colour profiles of pictures (ICC): what is not sRGB is taken to sRGB, by Pillow's LittleCMS."""

from __future__ import annotations

import io
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageCms

#: Pillow's modes whose samples a profile of a colour space describes.
MODES = {"RGB": ("RGB", "RGBA", "RGBX", "P", "PA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",)}

P = TypeVar("P", Image.Image, np.ndarray)


def profile_of(picture: Any) -> Any:
    """The profile that a picture carries; None where it has none, a damaged one, sRGB, or another colour space's."""
    data = picture.info.get("icc_profile")
    if not data:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
    except (OSError, ImageCms.PyCMSError):
        return None
    deep = picture.mode.startswith("I") and space == "GRAY"
    if not deep and picture.mode not in MODES.get(space, ()):
        return None
    return None if _changes_nothing(profile, space) else profile


def name_of(profile: Any) -> str:
    """What a profile calls itself."""
    return (ImageCms.getProfileDescription(profile) or "without a name").strip()


def in_srgb(picture: P, profile: Any) -> P:
    """A picture, or uint8 [h, w, 3], in sRGB; as it is without a profile. What is transparent stays so."""
    if profile is None:
        return picture
    if isinstance(picture, np.ndarray):
        grey = profile.profile.xcolor_space.strip() == "GRAY"
        taken = Image.fromarray(picture[..., 0].copy() if grey else picture)
        return np.asarray(_taken(taken, profile))
    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode == "RGBX":
        picture = picture.convert("RGB")
    if picture.mode not in ("RGBA", "LA"):
        return _taken(picture, profile)
    colours = _taken(picture.convert(picture.mode[:-1]), profile)
    colours.putalpha(picture.getchannel("A"))
    return colours


def _taken(picture: Image.Image, profile: Any) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    found = ImageCms.profileToProfile(picture, profile, target, renderingIntent=relative, outputMode="RGB")
    assert found is not None
    return found


def _changes_nothing(profile: Any, space: str) -> bool:
    """Whether a profile moves no colour of a coarse grid by more than a level or two: sRGB under any name."""
    if space == "CMYK":
        return False
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    if space == "GRAY":
        probe = Image.fromarray(levels[None])
        wanted = np.repeat(levels[None, :, None], 3, axis=2)
    else:
        wanted = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        probe = Image.fromarray(wanted)
    try:
        found = np.asarray(_taken(probe, profile))
    except ImageCms.PyCMSError:  # a profile that cannot be applied: the colours stay
        return True
    return int(np.abs(found.astype(int) - wanted).max()) <= 2
