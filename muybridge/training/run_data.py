"""The data of a run: its clips, their captions embedded and, for systems in a latent space, their latents; each
computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

from muybridge.data.clips import ClipSource, FirstClips, names_of
from muybridge.data.embeddings import CaptionEmbeddings
from muybridge.data.latents import ClipLatents
from muybridge.data.registry import make_source
from muybridge.evaluation.motion import mean_frame_difference
from muybridge.learning.contract import System
from muybridge.models.text.encoder import told_of_long_captions
from muybridge.models.text.vocabulary import Vocabulary, chosen
from muybridge.training.batches import BatchMaker, HeldOutClips
from muybridge.training.packing import RowMaker
from muybridge.training.recipe import Recipe


@dataclass(frozen=True)
class RunData:
    """What a run learns from and is checked on.

    Attributes:
        batches: of training clips.
        held_out: validation clips.
        motion: mean frame difference of some training clips, grey levels.
        told: what of the captions is not read, in words; "" if nothing.
        vocabulary: the names that captions are made of; None for captions that are not.
    """

    batches: BatchMaker
    held_out: HeldOutClips
    motion: float
    told: str
    vocabulary: Vocabulary | None = None


def run_data(
    recipe: Recipe, system: System, accelerator: Accelerator, cache: Path, console: Console, limit: int = 0
) -> RunData:
    """Open a recipe's data; the first process computes what the others then read.

    Args:
        cache: for embeddings and latents.
        limit: keep only so many clips, the largest ones (for a probe); 0 keeps all.
    """
    config = recipe.training
    source, held_out = make_source(recipe.data), make_source(recipe.data, "validation")
    held_out = FirstClips(held_out, min(config.validation_clips, limit or config.validation_clips))
    if limit:
        source = FirstClips(source, limit * _clips_of_a_row(source, system), largest=True)
    motion = float(np.mean([mean_frame_difference(source.clip(i).frames) for i in range(min(8, len(source)))]))

    @contextmanager
    def first_with_bar(what: str) -> Iterator[Callable[[int, int], None]]:
        bar = Progress(console=console, disable=not accelerator.is_main_process, transient=True)
        with accelerator.main_process_first(), bar as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    embeddings, vocabulary = None, None
    if recipe.text is not None:
        with first_with_bar("embedding captions") as tell:
            embeddings = CaptionEmbeddings(
                source.captions() + held_out.captions(), recipe.text, cache, tell, accelerator.device
            )

    names = chosen(names_of(source)) if system.names_are_told and not limit else []
    if recipe.text is not None and names:
        with first_with_bar("embedding names") as tell:
            known = CaptionEmbeddings(names, recipe.text, cache, tell, accelerator.device)
            vocabulary = Vocabulary(tuple(names), known(names).pooled)

    scorer, space = getattr(system, "scorer", None), getattr(system, "space", None)
    if scorer is not None:
        scorer.to(accelerator.device)

    def encoded(clips: ClipSource) -> ClipLatents | None:
        if space is None:
            return None
        space.vae.to(accelerator.device)
        with first_with_bar("encoding clips") as tell:
            return ClipLatents(clips, space, cache, tell, config.workers)

    says = recipe.text is not None and accelerator.is_main_process
    told = told_of_long_captions(source.captions(), recipe.text) if says and recipe.text else ""
    latents, unseen = encoded(source), encoded(held_out)
    images = int(getattr(system, "images_per_video", 0))
    pixels = "first" if system.wants_first_frame else "all" if system.wants_pixels else ""
    kind: Any = BatchMaker
    if system.token_budget:
        rows: dict[str, Any] = {"budget": system.token_budget, "batching": system.batching, "tokens": system.tokens}
        kind = partial(RowMaker, **rows)
    batches = kind(source, embeddings, images, config.batch_size, recipe.seed, latents=latents, pixels=pixels)
    looked_at = HeldOutClips(held_out, embeddings, images, recipe.seed, unseen, pixels)
    return RunData(batches, looked_at, motion, told, vocabulary)


def _clips_of_a_row(source: ClipSource, system: System) -> int:
    """How many of a source's largest clips fill a row, for a probe; 1 where there are no rows."""
    if not system.token_budget:
        return 1
    shape = max(getattr(source, "shapes", None) or [source.clip(0).frames.shape[:3]], key=lambda s: int(np.prod(s)))
    return max(1, -(-system.token_budget // system.tokens(system.space.shape(*shape))))
