"""Folders of numbered pictures: their order, their gaps, and the rate they are shown at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from muybridge.data.reading.formats import ANIMATIONS, PICTURES, FootageError, is_animation

#: A file in a folder of pictures that says how many are shown a second.
RATE_FILE = "fps.txt"
#: Frames a second that such a file may say.
FASTEST = 1000.0


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names with numbers as people count: frame2 before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(1, int(p), p) if p.isdigit() and p.isascii() else (0, 0, p) for p in parts]


def is_picture(path: Path) -> bool:
    """Whether a file is a single picture."""
    ending = path.suffix.lower()
    return ending in PICTURES or (ending in ANIMATIONS and path.is_file() and not is_animation(path))


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their numbers; hidden files, as macOS leaves beside each, are none."""
    shown = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted((p for p in shown if is_picture(p)), key=lambda p: natural(p.name))


def gaps_of(names: Sequence[str]) -> str:
    """Which numbers are missing in names that are in order, in words; "" if none is.

    The number of a name is its last one; numbers that rise by an even step have no gap.
    """
    numbers: list[int] = []
    for name in names:
        found = re.findall(r"\d+", Path(name).stem)
        if not found:
            return ""
        numbers.append(int(found[-1]))
    steps = [b - a for a, b in zip(numbers, numbers[1:], strict=False)]
    rising = [s for s in steps if s > 0]
    if not rising:
        return ""
    step = min(Counter(rising).most_common(), key=lambda found: (-found[1], found[0]))[0]
    missing = []
    for number, rise in zip(numbers, steps, strict=False):
        if rise > step:
            first, last = number + step, number + rise - (rise % step or step)
            missing.append(f"{first}" if first >= last else f"{first} to {last}")
    more = f" and {len(missing) - 8} more gaps" if len(missing) > 8 else ""
    return ", ".join(missing[:8]) + more


def rate_of(folder: Path, otherwise: float) -> float:
    """Frames a second that the folder's `fps.txt` says, such as 24 or 24000/1001; `otherwise` without one.

    Raises:
        FootageError: the file says something else.
    """
    path = folder / RATE_FILE
    if not path.is_file():
        return otherwise
    try:
        rate = float(Fraction(path.read_text(encoding="utf-8-sig").strip()))
    except (OSError, ValueError, ZeroDivisionError):
        rate = 0.0
    if not 0 < rate <= FASTEST:
        raise FootageError("rate", f"{RATE_FILE}: expected frames a second above 0, such as 24 or 24000/1001")
    return rate
