"""Files that are merged into a model: the options --lora and --embedding."""

from __future__ import annotations

from pathlib import Path


def lora_file(text: str) -> tuple[Path, float]:
    """The file and scale of --lora FILE[:SCALE], or of a bundled one's name.

    Raises:
        UserError: not there, pickled, damaged, or with tensors that are not read; found from its names alone.
    """
    from muybridge.library.catalogue import find_lora, split_lora
    from muybridge.models.weights.adapters.reading import checked_shapes, places_of

    name, scale = split_lora(text)
    file = find_lora(name)
    places_of(checked_shapes(file), file)
    return file, scale


def embedding_file(text: str) -> tuple[Path, str]:
    """The file and word of --embedding FILE[:WORD].

    Raises:
        UserError: not there, pickled, or damaged.
    """
    from muybridge.models.text.inversions import read_inversion

    name, _, word = text.partition(":")
    file = Path(name).expanduser()
    read_inversion(file, word)
    return file, word
