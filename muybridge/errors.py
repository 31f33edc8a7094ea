"""Errors a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message says what was got, what was expected and what to do. The command line exits with 2."""


class Notice(UserWarning):
    """What a user should know of what is done with their input; the command line prints it as a line of its own."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence naming the closest known name, and all of them."""
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}"
