"""What a lesson is: sliders, and what they show together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Slider:
    """A number that the reader moves, or a choice.

    Attributes:
        name: the argument of the lesson's function.
        label: with its symbol.
        low, high, start, step: of a number.
        choices: of a choice; `start` is one of them.
    """

    name: str
    label: str
    low: float = 0.0
    high: float = 1.0
    start: float | str = 0.5
    step: float = 0.01
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A formula (LaTeX), a plot (SVG) and frames (HTML), which move together."""

    formula: str
    plot: str
    frames: str


@dataclass(frozen=True)
class Lesson:
    """An equation with sliders.

    Attributes:
        title, text: what it is and what to look for.
        show: from the sliders' values to what is shown, by the library's own functions.
        code: which functions of the library those are.
        source: where the equation is from.
    """

    title: str
    text: str
    sliders: tuple[Slider, ...]
    show: Callable[..., Shown]
    code: str
    source: str
    starts: dict[str, float | str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", {s.name: s.start for s in self.sliders})
