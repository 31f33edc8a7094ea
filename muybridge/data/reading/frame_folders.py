"""Folders of numbered pictures: their order, what is odd about it, and the rate they are shown at."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from muybridge.data.reading.formats import ANIMATIONS, PICTURES, FootageError, is_animation

#: A file in a folder of pictures that says how many are shown a second.
RATE_FILE = "fps.txt"
#: Frames a second that such a file may say.
FASTEST = 1000.0
#: Of two files with one name the first of these endings is taken, where neither is commoner in the folder.
BEST = (".png", ".tif", ".tiff", ".bmp", ".webp")
WHOLE = r"[0-9]+"
#: A minus where no letter or digit stands before it: `-2` and `x_-2`, not `x-2`.
MINUS = r"(?:(?<![^_ =(])-)?"
#: Pictures that must follow each other evenly before their names are taken for hexadecimal numbers.
FEWEST_HEXADECIMAL = 11

Key = Callable[[str], list[tuple[int, Decimal, str]]]
#: An action and its reason, as reports have them.
Line = tuple[str, str]


def order_of(stems: Sequence[str]) -> Key:
    """The key that sorts the names of one folder, without their endings, as people count: frame2 before frame10.

    What a number is, the folder says as a whole: numbers have a point where it is written as programs print them (t1.5
    and t1.25, but not the shots 1.9, 1.10, 1.11); a sign where some have one and others none; and are hexadecimal where
    they are of one width and follow each other evenly.
    """
    lowered = [s.lower() for s in stems]
    if _hexadecimal(lowered):
        return lambda stem: [(0, Decimal(0), stem.lower())]
    fractions = [f for s in lowered for f in re.findall(r"[0-9]\.([0-9]+)", s)]
    pointed = len({len(f) for f in fractions}) > 1 and not any(len(f) > 1 and f.endswith("0") for f in fractions)
    below = [bool(re.search(r"(?<![^_ =(])-[0-9]", s)) for s in lowered]
    signed = any(below) and not all(below)
    number = (MINUS if signed else "") + WHOLE + (r"(?:\.[0-9]+)?" if pointed else "")

    def key(stem: str) -> list[tuple[int, Decimal, str]]:
        parts = re.split(f"({number})", stem.lower())  # every second one is a number
        return [(1, Decimal(p), p) if i % 2 else (0, Decimal(0), p) for i, p in enumerate(parts)]

    return key


def _hexadecimal(stems: Sequence[str]) -> bool:
    """Whether what differs in the names are hexadecimal numbers of one width, evenly spaced."""
    if len(set(stems)) < FEWEST_HEXADECIMAL or len({len(s) for s in stems}) > 1:
        return False
    differing = [i for i, letters in enumerate(zip(*stems, strict=True)) if len(set(letters)) > 1]
    middles = {s[differing[0] : differing[-1] + 1] for s in stems}
    if not all(re.fullmatch("[0-9a-f]+", m) for m in middles):
        return False
    if all(m.isdigit() for m in middles) or all(m.isalpha() for m in middles):
        return False
    values = sorted(int(m, 16) for m in middles)
    return len({b - a for a, b in zip(values, values[1:], strict=False)}) == 1


def is_picture(path: Path) -> bool:
    """Whether a file is a single picture."""
    ending = path.suffix.lower()
    return ending in PICTURES or (ending in ANIMATIONS and path.is_file() and not is_animation(path))


def pictures_of(folder: Path) -> tuple[list[Path], list[Line]]:
    """The pictures of a folder in the order of their numbers, and what is odd: files that show one frame twice,
    several numberings, missing numbers.

    Hidden files, as macOS leaves beside each, are none.
    """
    shown = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and is_picture(p)]
    pictures, told = _once(shown)
    key = order_of([p.stem for p in pictures])
    pictures.sort(key=lambda p: (key(p.stem), p.name))
    series: dict[str, list[str]] = defaultdict(list)
    for path in pictures:
        series[re.sub(WHOLE, "#", path.stem.lower())].append(path.stem)
    several = [name for name, members in series.items() if len(members) > 1]
    if len(several) > 1:
        told.append(("order", f"{len(several)} numberings in one folder ({_few(several)}) become one clip; "
                     "put each into a folder of its own to have a clip of each"))  # fmt: skip
    missing = [found for members in series.values() if (found := gaps_of(members))]
    if missing:
        told.append(("gap", f"no picture is numbered {'; '.join(missing)}; those around follow each other"))
    return pictures, told


def _once(pictures: list[Path]) -> tuple[list[Path], list[Line]]:
    """One file of every name: files that differ in their ending alone show the same frame."""
    named: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        named[path.stem].append(path)
    common = Counter(p.suffix.lower() for p in pictures)

    def rank(path: Path) -> tuple[int, int, str]:
        ending = path.suffix.lower()
        return -common[ending], BEST.index(ending) if ending in BEST else len(BEST), path.name

    kept = [min(paths, key=rank) for paths in named.values()]
    left = [p.name for p in pictures if p not in set(kept)]
    reason = f"{_few(left)}: the same name with another ending is taken ({', '.join(sorted({p.suffix for p in kept}))})"
    return kept, [("dropped", reason)] if left else []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def gaps_of(stems: Sequence[str]) -> str:
    """Which numbers are missing in names that are in order, in words; "" if none is.

    The number of a name is the last one that is not the same in all; numbers that rise by an even step have no gap.
    """
    found = [re.findall(WHOLE, stem) for stem in stems]
    if len({len(f) for f in found}) != 1 or not found[0]:
        return ""
    columns = [[int(n) for n in column] for column in zip(*found, strict=True)]
    numbers = next((c for c in reversed(columns) if len(set(c)) > 1), columns[-1])
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
