"""The folder of a run: whose it is, and that one run at a time writes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import check_replaceable, read_mapping, write_json
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.recipe import Recipe, lasting_part


def claim(folder: Path, recipe: Recipe, checkpoints: CheckpointFolder) -> None:
    """Make a run's folder and keep its recipe there.

    Raises:
        UserError: it holds something else, or checkpoints of another recipe.
    """
    path = folder / "recipe.json"
    if not path.exists():  # a new run starts in a folder of its own: nothing that lies there is written over
        check_replaceable(folder, ("cache/*",), "a run")
    mine = recipe.as_dict()
    if path.exists():
        try:
            theirs = read_mapping(path)
            from_mapping(Recipe, theirs, str(path))
        except UserError as error:
            raise UserError(f"{folder}: not the folder of a run ({error}); give another --output") from error
        changed = sorted(k for k in mine if lasting_part(k, mine[k]) != lasting_part(k, theirs.get(k)))
        if changed and (checkpoints.steps() or (folder / "model").exists()):
            raise UserError(
                f"{folder} holds a run with another recipe (different: {', '.join(changed)}); "
                "give another --output, or restore the recipe to go on"
            )
    write_json(path, mine)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within this block no other process trains in this folder.

    Raises:
        UserError: another one does, or the folder cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: two runs at once go unnoticed
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)  # of the folder itself, so that no file of ours lies in a user's
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); give another --output") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another run is training there; wait for it, or give another --output"
            ) from error
        yield
    finally:
        os.close(handle)
