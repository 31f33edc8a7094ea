"""Latents of a whole data set, computed once and kept on disk: a latent model's training never runs the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from muybridge.data.clips import ClipSource
from muybridge.evaluation.motion import mean_frame_difference
from muybridge.models.latent.space import LatentSpace
from muybridge.nn.frames import from_uint8

VERSION = 2
#: Clips whose pixels go into the name of the file, so that a rebuilt data set does not meet stale latents.
PROBED = 16


class ClipLatents:
    """Posterior mean and deviation of every clip, half precision, memory-mapped.

    Clips are encoded one at a time, so that a row never depends on its neighbours.

    Args:
        folder: where the file is kept; it is written whole under a temporary name first.
        progress: called with (done, total).
    """

    def __init__(
        self,
        source: ClipSource,
        space: LatentSpace,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.path = folder / f"latents-{_name(source, space)}.safetensors"
        if not self.path.exists():
            self._build(source, space, progress)
        table = load_file(self.path)
        self.fps = table["fps"]
        self.mean, self.std = (self._rows(table, name) for name in ("mean", "std"))
        ranks = table["motion"].argsort().argsort().float()
        #: the motion score's quantile in this data set, 0 .. 255 (how Stable Video Diffusion's buckets come from scores
        #: was not published)
        self.motion_bucket = 255 * ranks / max(1, len(ranks) - 1)

    @staticmethod
    def _rows(table: dict[str, Tensor], name: str) -> Tensor | list[Tensor]:
        """One tensor, or one a clip where their shapes differ."""
        return table[name] if name in table else [table[f"{name}.{i}"] for i in range(len(table["fps"]))]

    def _build(self, source: ClipSource, space: LatentSpace, progress: Callable[[int, int], None] | None) -> None:
        means, stds, rates, motions = [], [], [], []
        for i in range(len(source)):
            clip = source.clip(i)
            mean, std = space.encode(from_uint8(clip.frames)[None])
            rates.append(clip.fps)
            motions.append(mean_frame_difference(clip.frames))
            means.append(mean[0].half().cpu())
            stds.append(std[0].half().cpu())
            if progress:
                progress(i + 1, len(source))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        table: dict[str, Tensor] = {}
        for name, rows in (("mean", means), ("std", stds)):
            same = len({r.shape for r in rows}) == 1
            table |= {name: torch.stack(rows)} if same else {f"{name}.{i}": r.contiguous() for i, r in enumerate(rows)}
        table |= {"fps": torch.tensor(rates), "motion": torch.tensor(motions)}
        save_file(table, unfinished)
        unfinished.replace(self.path)

    def __len__(self) -> int:
        return len(self.mean)

    def __call__(self, index: int, generator: torch.Generator) -> Tensor:
        """A draw of clip `index`'s latents, float32 [C, F, h, w]."""
        mean, std = self.mean[index].float(), self.std[index].float()
        return mean + std * torch.randn(mean.shape, generator=generator)


def _name(source: ClipSource, space: LatentSpace) -> str:
    digest = hashlib.sha256(f"{VERSION}/{space.identity()}/{len(source)}".encode())
    digest.update("\n".join(source.captions()).encode())
    for i in np.linspace(0, len(source) - 1, min(PROBED, len(source))).astype(int):
        digest.update(source.clip(int(i)).frames.tobytes())
    return digest.hexdigest()[:20]
