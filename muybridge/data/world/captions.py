"""The words for a scene: several phrasings of each, of which the first is the plainest."""

from __future__ import annotations

#: Each motion's phrasings.
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "moves to the left", "going left", "travelling leftwards"),
    "right": ("moving right", "moves to the right", "going right", "travelling rightwards"),
    "up": ("moving up", "moves upwards", "going up", "rising"),
    "down": ("moving down", "moves downwards", "going down", "sinking"),
    "bouncing": ("bouncing", "bounces up and down", "bouncing on the ground", "jumping up and down"),
    "orbiting": ("orbiting", "moves in a circle", "going round in circles", "circling"),
    "growing": ("growing", "gets bigger", "growing larger", "expanding"),
    "spinning": ("spinning", "rotates in place", "turning round", "rotating"),
    "still": ("standing still", "does not move", "at rest", "staying in place"),
}

SIZES: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "medium": ("", ""), "large": ("large", "big")}

BACKGROUNDS: dict[str, str] = {
    "dark": "",
    "light": "on a light background",
    "stripes": "on a striped background",
    "checks": "on a checkered background",
    "dots": "on a dotted background",
    "waves": "on a wavy background",
}

PANS: dict[str, str] = {
    "none": "",
    "left": "the camera pans left",
    "right": "the camera pans right",
    "up": "the camera pans up",
    "down": "the camera pans down",
}

#: How a thing and what it does are joined; the first is the plainest, "a red circle moving left".
FORMS = ("{thing} {motion}", "{thing} that is {motion}", "a video of {thing} {motion}", "{thing}, {motion}")
FINITE = ("moves", "bounces", "gets", "rotates", "does")


def name_thing(colour: str, shape: str, size: str, variant: int = 0) -> str:
    words = [SIZES[size][variant % 2], colour, shape]
    phrase = " ".join(w for w in words if w)
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def describe(thing: str, motion: str, form: int = 0, variant: int = 0) -> str:
    """ "a red circle" + "left" -> "a red circle moving left" (form 0, variant 0)."""
    phrase = MOTIONS[motion][variant]
    template = FORMS[form]
    if phrase.startswith(FINITE) and template != FORMS[3]:
        template = FORMS[0]  # "a circle that is moves" is no English
    return template.format(thing=thing, motion=phrase)


def compose(parts: list[str], background: str, pan: str) -> str:
    """Join the things, then what is behind them, then the camera."""
    text = " and ".join(parts)
    if BACKGROUNDS[background]:
        text += " " + BACKGROUNDS[background]
    if PANS[pan]:
        text += ", " + PANS[pan]
    return text
