"""Decoded frames as 8-bit RGB, BT.709: the matrix, range, primaries and transfer that their tags name are honoured.

Untagged frames of 720 lines and more (or 1280 columns) are BT.709, smaller ones BT.601, as players take them. PQ and
HLG are tone-mapped: 203 cd/m2 (ITU-R BT.2408's reference white) comes to 96 % of SDR's white, and what is brighter is
rolled off into the rest. BT.2020 and P3 primaries become BT.709's, in linear light. Alpha lies on white.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from muybridge.data.reading.formats import FootageError

#: Codes of ITU-T H.273.
PQ, HLG = 16, 18
BT709, UNTAGGED = 1, 2
#: swscale's number of BT.601's matrix; that of BT.709 is its code.
BT601 = 5
#: Matrix coefficients -> swscale's number for them.
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
#: Codes that say nothing of a frame of YCbCr: RGB's, unspecified, reserved.
NOTHING_SAID = (0, UNTAGGED, 3)
#: Other ways to code colours, none of which swscale undoes.
UNKNOWN = {8: "YCgCo", 11: "SMPTE 2085's Y'D'zD'x", 12: "a matrix of its primaries", 13: "a matrix of its primaries",
           14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}  # fmt: skip
LIMITED, FULL = 1, 2
HD_LINES, HD_COLUMNS = 720, 1280
#: Linear RGB of other primaries to BT.709's (D65; DCI's white is adapted by Bradford).
TO_709 = {
    9: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    11: ((1.157517, -0.154962, -0.002555), (-0.041500, 1.045567, -0.004067), (-0.018050, -0.078579, 1.096629)),
    12: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}
NAMES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
#: cd/m2 that SDR's white stands for.
WHITE = 203.0
#: The tone curve is a straight line up to this share of white.
KNEE = 0.8
#: Of a display that HLG is made for, cd/m2, and its system gamma.
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
DISPLAY_GAMMA = 2.4


def to_rgb(raw: Any, size: tuple[int, int] | None = None, interpolation: str | None = None) -> np.ndarray:
    """A decoded frame, uint8 [h, w, 3], as it is stored: not turned.

    Args:
        raw: PyAV's frame.
        size: (width, height) to scale to; its own by default.
        interpolation: swscale's name of how.
    """
    width, height = size or (raw.width, raw.height)
    transfer, primaries = int(raw.color_trc), int(raw.color_primaries)
    wide = transfer in (PQ, HLG) or primaries in TO_709
    deep = wide or any(c.bits > 8 for c in raw.format.components)  # straight to 8 bits rounds twice
    clear = has_alpha(raw)
    names = {(True, True): "rgba64le", (True, False): "rgb48le", (False, True): "rgba", (False, False): "rgb24"}
    options = {"width": width, "height": height, "interpolation": interpolation}
    picture = raw.reformat(format=names[deep, clear], **options, **tags_of(raw)).to_ndarray()
    if wide:
        if primaries == UNTAGGED and transfer in (PQ, HLG):
            primaries = 9
        colours = _in_709(picture[..., :3], transfer, primaries)
        alpha = _in_8_bits(picture[..., 3:]) if clear else None
    else:
        picture = _in_8_bits(picture) if deep else picture
        colours, alpha = picture[..., :3], picture[..., 3:] if clear else None
    return np.ascontiguousarray(colours) if alpha is None else on_white(colours, alpha)


def _in_8_bits(picture: np.ndarray) -> np.ndarray:
    """uint16 -> the nearest uint8."""
    return ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)


def has_alpha(raw: Any) -> bool:
    """Whether a decoded frame says what is transparent."""
    return any(c.is_alpha for c in raw.format.components) or raw.format.has_palette


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] over white; alpha uint8 [h, w, 1]."""
    share = alpha.astype(np.uint32)
    return ((colours * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def matrix_of(raw: Any) -> int:
    """swscale's number of the matrix that a frame of YCbCr was made with.

    Raises:
        FootageError: colours that are coded in another way.
    """
    code = int(raw.colorspace)
    if code in NOTHING_SAID:
        if int(raw.color_primaries) == 9:
            code = 9
        else:
            code = BT709 if raw.height >= HD_LINES or raw.width >= HD_COLUMNS else BT601
    if code not in MATRICES:
        how = UNKNOWN.get(code, f"matrix {code}")
        raise FootageError("colours", f"its colours are coded as {how}, which is not read; encode it in BT.709 first")
    return MATRICES[code]


def tags_of(raw: Any) -> dict[str, Any]:
    """A frame's matrix and range, as PyAV's `reformat` takes them; pixels come out in full range."""
    if raw.format.is_rgb or raw.format.has_palette:
        return {}
    # of formats that have a full range by themselves (yuvj420p, gray) swscale asks nothing
    spread = FULL if int(raw.color_range) == FULL else LIMITED
    return {"src_colorspace": matrix_of(raw), "src_color_range": spread, "dst_color_range": FULL}


def changes(raw: Any) -> list[str]:
    """What is done to a frame's colours beside reading its tags, in words."""
    transfer, primaries = int(raw.color_trc), int(raw.color_primaries)
    if transfer in (PQ, HLG):
        return [f"tone-mapped from {'PQ' if transfer == PQ else 'HLG'} to BT.709"]
    return [f"colours of {NAMES[primaries]} taken to BT.709"] if primaries in TO_709 else []


def _in_709(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """uint16 [h, w, 3] of a wide system -> uint8 of BT.709, a band of rows at a time."""
    out = np.empty(picture.shape, np.uint8)
    table, matrix = _linear(transfer), np.asarray(TO_709.get(primaries, np.eye(3)), np.float32)
    rows = max(1, 2**18 // max(1, picture.shape[1]))
    for top in range(0, len(picture), rows):
        light = table[picture[top : top + rows]]
        if transfer == HLG:
            bright = light @ np.asarray((0.2627, 0.6780, 0.0593), np.float32)
            light = light * np.maximum(bright, 1e-9)[..., None] ** np.float32(HLG_GAMMA - 1) * (HLG_PEAK / WHITE)
        light = np.maximum(light @ matrix.T, 0)
        if transfer in (PQ, HLG):
            light = _rolled_off(light)
        out[top : top + rows] = np.round(255 * np.minimum(light, 1) ** np.float32(1 / DISPLAY_GAMMA))
    return out


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """Light in units of white, [h, w, 3] -> at most 1; the three keep their ratio, so that hues stay."""
    most = light.max(-1, keepdims=True)
    over = np.maximum(most - KNEE, 0) / (1 - KNEE)
    return np.where(most > KNEE, light * ((KNEE + (1 - KNEE) * over / (1 + over)) / np.maximum(most, 1e-9)), light)


@lru_cache(maxsize=4)
def _linear(transfer: int) -> np.ndarray:
    """Light of each 16-bit code: PQ in units of white, HLG of the scene (0..1), others of SDR's white."""
    code = np.arange(65536) / 65535
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        light = 10000 / WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = code**DISPLAY_GAMMA
    return light.astype(np.float32)
