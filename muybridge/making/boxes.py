"""Rectangles as they are given on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from muybridge.errors import UserError


@dataclass(frozen=True)
class Box:
    """A rectangle: in pixels, or, where none of its numbers is above 1, in shares of the sides."""

    left: float
    top: float
    right: float
    bottom: float

    def within(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of a picture.

        Raises:
            UserError: nothing of it lies within.
        """
        shares = max(self.left, self.top, self.right, self.bottom) <= 1
        wide, high = (width, height) if shares else (1, 1)
        left, right = (round(min(max(x * wide, 0), width)) for x in (self.left, self.right))
        top, bottom = (round(min(max(y * high, 0), height)) for y in (self.top, self.bottom))
        if left >= right or top >= bottom:
            raise UserError(
                f"box {self.left:g},{self.top:g},{self.right:g},{self.bottom:g}: nothing of a picture of "
                f"{width}x{height} lies within LEFT,TOP,RIGHT,BOTTOM"
            )
        return left, top, right, bottom


def parse_box(text: str) -> Box | None:
    """LEFT,TOP,RIGHT,BOTTOM as a box; None for another text.

    Raises:
        UserError: four numbers of which the first two are not below the others.
    """
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) != 4 or not all(math.isfinite(n) for n in numbers):
        raise UserError(f"{text!r}: a box is four numbers LEFT,TOP,RIGHT,BOTTOM, got {len(numbers)}")
    box = Box(*numbers)
    if not (0 <= box.left < box.right and 0 <= box.top < box.bottom):
        raise UserError(f"{text!r}: a box is LEFT,TOP,RIGHT,BOTTOM, the first two below the others and none below 0")
    return box
