"""How a stored picture is turned and mirrored to be upright: EXIF's eight ways, which display matrices have too."""

from __future__ import annotations

import struct

import numpy as np

UPRIGHT = 1
#: Ways in which stored width and height change places.
LYING = frozenset([5, 6, 7, 8])
#: Degrees counter-clockwise of each, mirrors left out of account.
DEGREES = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90}


def upright(picture: np.ndarray, way: int) -> np.ndarray:
    """[h, w, ...] as it is stored -> as it is shown; `way` is EXIF's 1..8, anything else is upright already."""
    if way in (2, 4):
        turned = picture[:, ::-1] if way == 2 else picture[::-1]
    elif way in (5, 7):
        turned = np.rot90(np.swapaxes(picture, 0, 1), 0 if way == 5 else 2)
    elif way in (3, 6, 8):
        turned = np.rot90(picture, {3: 2, 6: -1, 8: 1}[way])
    else:
        return picture
    return np.ascontiguousarray(turned)


def of_matrix(matrix: bytes) -> int:
    """A display matrix (nine 32-bit numbers, 16.16) as one of EXIF's ways: the nearest multiple of 90 degrees."""
    if len(matrix) < 36:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {(True, True): 1, (False, True): 2, (False, False): 3, (True, False): 4}[a >= 0, d >= 0]
    return {(True, True): 5, (True, False): 6, (False, False): 7, (False, True): 8}[b >= 0, c >= 0]


def of_frame(raw: object) -> int:
    """How a decoded frame (PyAV's) asks to be shown."""
    from av.sidedata.sidedata import Type

    found = raw.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[attr-defined]
    return UPRIGHT if found is None else of_matrix(bytes(found))
