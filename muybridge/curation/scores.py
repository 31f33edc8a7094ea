"""Scores of a clip's looked-at pictures: how sharp, how colourful, how exposed, how much text; and its fingerprint.

The three picture scores are classical stand-ins where no aesthetic model is given; they are named for what they
measure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from muybridge.errors import UserError

#: A line is text if it is read with at least this confidence.
READABLE = 0.6


def sharpness(picture: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey picture, grey levels. uint8 [h, w, 3]."""
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def colourfulness(picture: np.ndarray) -> float:
    """Hasler and Suesstrunk's (2003) measure: 0 for grey, above 80 for gaudy."""
    r, g, b = picture.astype(np.float32).reshape(-1, 3).T
    rg, yb = r - g, 0.5 * (r + g) - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def exposure(picture: np.ndarray) -> float:
    """Share of pixels that are neither black nor blown out, 0 to 1."""
    grey = picture.mean(-1)
    return float(((grey > 8) & (grey < 247)).mean())


@lru_cache(maxsize=1)
def _reader() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        raise UserError(
            "text detection needs rapidocr: pip install --no-deps rapidocr-onnxruntime==1.4.4 and "
            "pip install onnxruntime pyclipper shapely; or leave --text out"
        ) from None
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


def text_area(picture: np.ndarray) -> float:
    """Share of the picture under lines of text (shoelace areas, added up), at most 1.

    A detected line counts once it has been read: stripes and chequers look like lines, but nothing of two letters or
    digits is read out of them.
    """
    lines, _ = _reader()(np.ascontiguousarray(picture[..., ::-1]), use_cls=False, text_score=READABLE)
    total = 0.0
    for box, words, _ in lines or []:
        if sum(c.isalnum() for c in words) < 2:
            continue
        x, y = np.asarray(box, np.float64).T
        total += 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))
    return min(1.0, total / (picture.shape[0] * picture.shape[1]))


# --- fingerprints -----------------------------------------------------------------------------------------------------


def fingerprint(picture: np.ndarray) -> str:
    """A perceptual hash, 16 hex digits: signs of the lowest 8 x 8 cosine coefficients. Survives scaling and
    re-encoding."""
    import cv2

    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if b else '0' for b in bits), 2):016x}"
