"""What Stable Video's network is told of a clip in training, task by task; parts of it are dropped for guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from muybridge.errors import UserError
from muybridge.learning.contract import TrainingBatch
from muybridge.learning.draws import Draws

if TYPE_CHECKING:
    from muybridge.systems.stable_video.training import StableVideo

#: What the network is told, by name: "context" [B, L, D] of the cross-attention; "picture" [B, C, 1, h, w] beside the
#: noisy latents, or "known" and "known_mask" of the plug-in; "level", the noise on what is given, [B].
Told = dict[str, Tensor]


def kept_parts(draws: Draws, drop: float, like: Tensor) -> Tensor:
    """Whether a sample's embedding and its latents are kept, [B, 2]; thirds of the dropped share: the embedding, the
    latents, both."""
    thirds = [int(share // drop) if drop else 3 for share in draws.shares().tolist()]
    return torch.tensor([(third not in (0, 2), third not in (1, 2)) for third in thirds], device=like.device)


def told_picture(system: StableVideo, batch: TrainingBatch, draws: Draws, level: Tensor) -> Told:
    """The first frame: its embedding, and its latents of a noised picture."""
    if batch.first_frame is None:
        raise UserError("this system needs the first frame's pixels beside the latents")
    x, clean = batch.video, batch.first_frame
    noisy = clean + _rows(level) * draws.normal(clean.shape[1:]).to(x)
    kept = kept_parts(draws, system.config.drop, x)
    latents = system.space.encode(noisy)[0] / system.space.scale  # unscaled, as the official code has it
    return {"picture": latents * _rows(kept[:, 1]), "context": system.seen(clean) * kept[:, :1, None], "level": level}


def told_words(system: StableVideo, batch: TrainingBatch, draws: Draws, level: Tensor) -> Told:
    """The caption; `drop` is how often it is the empty one."""
    if batch.text is None or batch.null_text is None:
        raise UserError("text: this task trains on captions, but the batch has none")
    dropped = (draws.shares() < system.config.drop).to(batch.video.device)
    return {"context": torch.where(dropped[:, None, None], batch.null_text.tokens, batch.text.tokens[:, 0])}


def told_ends(system: StableVideo, batch: TrainingBatch, draws: Draws, level: Tensor) -> Told:
    """The first and the last frame: two embeddings, and latents that are noised themselves (at the unit variance that
    they are diffused at; a choice) before the scale is taken out. Where they are dropped all frames are hidden."""
    x = batch.video
    if batch.pixels is None or x.shape[2] < 3:
        raise UserError("interpolation needs clips of at least 3 frames, and their pixels beside the latents")
    ends = x[:, :, [0, -1]]
    known = torch.zeros_like(x)
    known[:, :, [0, -1]] = (ends + _rows(level) * draws.normal(ends.shape[1:]).to(x)) / system.space.scale
    kept = kept_parts(draws, system.config.drop, x)
    mask = ends_mask(x.shape[2], x) * _rows(kept[:, 1])
    seen = [system.seen(batch.pixels[:, :, [place]]) for place in (0, -1)]
    return {"context": torch.cat(seen, 1) * kept[:, :1, None], "known": known, "known_mask": mask, "level": level}


def ends_mask(frames: int, like: Tensor) -> Tensor:
    """[1, 1, F, 1, 1], 1 at the first frame and the last."""
    mask = like.new_zeros(1, 1, frames, 1, 1)
    mask[:, :, [0, -1]] = 1
    return mask


def _rows(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Task:
    """One of Stable Video's tasks.

    Attributes:
        tell: what the network is told.
        scalars: numbers among it.
        pipeline: the class that opens what was trained.
        pixels: "first" or "all" frames' that the trainer hands over beside the latents; "" for none.
    """

    tell: Callable[[Any, TrainingBatch, Draws, Tensor], Told]
    scalars: tuple[str, ...]
    pipeline: str
    pixels: str = ""


OF_CLIPS = ("fps", "motion_bucket")
TASKS = {
    "picture": Task(told_picture, (*OF_CLIPS, "noise_augmentation"), "ImageToVideoPipeline", "first"),
    "words": Task(told_words, OF_CLIPS, "StableVideoWordsPipeline"),
    "interpolation": Task(told_ends, (*OF_CLIPS, "noise_augmentation"), "StableVideoBetweenPipeline", "all"),
}
