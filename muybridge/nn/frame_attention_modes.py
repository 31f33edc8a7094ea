"""Whose tokens a frame may attend to, by name; light, so that options can be made from it."""

MODES = ("own", "first", "first_previous", "full")
