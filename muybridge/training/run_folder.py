"""The folder of a run: whose it is, and that one run at a time writes there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muybridge.errors import UserError
from muybridge.files import check_replaceable, write_json
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.recipe import Recipe, lasting_part


def claim(folder: Path, recipe: Recipe, checkpoints: CheckpointFolder) -> None:
    """Make a run's folder and keep its recipe there.

    Raises:
        UserError: it holds something else, or checkpoints of another recipe.
    """
    path = folder / "recipe.json"
    if not path.exists():  # a new run starts in a folder of its own: nothing that lies there is written over
        check_replaceable(folder, ("cache/*", LOCK), "a run")
    mine = recipe.as_dict()
    if path.exists():
        try:
            theirs = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); give another --output") from error
        changed = sorted(k for k in mine if lasting_part(k, mine[k]) != lasting_part(k, theirs.get(k)))
        if changed and checkpoints.steps():
            raise UserError(
                f"{folder} holds a run with another recipe (different: {', '.join(changed)}); "
                "give another --output, or restore the recipe to go on"
            )
    write_json(path, mine)


LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this block no other process trains in this folder.

    Raises:
        UserError: another one does, or the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: two runs at once go unnoticed
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a")  # noqa: SIM115 (held as long as the block)
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); give another --output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another run is training there; wait for it, or give another --output"
            ) from error
        yield
