"""The folder of a run: whose it is."""

from __future__ import annotations

import re
from pathlib import Path

from muybridge.configuration import from_mapping
from muybridge.errors import UserError
from muybridge.files import UNFINISHED, check_replaceable, files_in, read_mapping, write_json
from muybridge.training.checkpoint import CheckpointFolder
from muybridge.training.export import origin_of
from muybridge.training.recipe import Recipe, lasting_part

#: What a start that failed leaves behind: embeddings and latents.
CACHED = re.compile(rf"cache/((captions|latents)-[0-9a-f]+\.safetensors|{re.escape(UNFINISHED)}\w+\.safetensors)")


def check_free(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that is not this run's, before anything is written there.

    Raises:
        UserError: it holds something else, or the run of another recipe.
    """
    path, model = folder / "recipe.json", folder / "model"
    mine = recipe.as_dict()
    if not path.exists():  # a new run starts in a folder of its own; embeddings may be there of a start that failed
        if not folder.is_dir() or not all(CACHED.fullmatch(p.relative_to(folder).as_posix()) for p in files_in(folder)):
            check_replaceable(folder, "a run")
    else:
        try:
            theirs = read_mapping(path)
            from_mapping(Recipe, theirs, str(path))
        except UserError as error:
            raise UserError(f"{folder}: not the folder of a run ({error}); give another --output") from error
        changed = sorted(k for k in mine if lasting_part(k, mine[k]) != lasting_part(k, theirs.get(k)))
        if changed:
            begun = CheckpointFolder(folder / "checkpoints").steps() or model.exists()
            other = "restore the recipe to go on" if begun else f"remove {path}: no step of that run was kept"
            raise UserError(
                f"{folder} holds a run with another recipe (different: {', '.join(changed)}); "
                f"give another --output, or {other}"
            )
        check_replaceable(model, "a model", origin_of(recipe), keep=True)  # now, not when training has ended


def claim(folder: Path, recipe: Recipe) -> None:
    """Keep a run's recipe in its folder.

    Raises:
        UserError: as `check_free`.
    """
    check_free(folder, recipe)
    write_json(folder / "recipe.json", recipe.as_dict())
