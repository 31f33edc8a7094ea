"""Latents of a whole data set, computed once and kept on disk: a latent model's training never runs the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from muybridge.data.ahead import in_order
from muybridge.data.clips import ClipSource
from muybridge.evaluation.motion import mean_frame_difference
from muybridge.files import whole_file
from muybridge.models.latent.space import CHUNK_PIXELS, ON_ACCELERATOR, LatentSpace
from muybridge.nn.frames import from_uint8

VERSION = 2
#: Clips whose pixels go into the name of the file, so that a rebuilt data set does not meet stale latents.
PROBED = 16


class ClipLatents:
    """Posterior mean and deviation of every clip, half precision.

    Clips are decoded by threads ahead of the encoder. On a CPU they are encoded one at a time, so that a row never
    depends on its neighbours; on an accelerator as many of one shape together as keep it busy, the same ones every
    time.

    Args:
        space: encodes where its autoencoder is.
        folder: where the file is kept; it is written whole under a temporary name first, and made anew where it cannot
            be read.
        progress: called with (done, total).
        workers: threads that decode; results do not depend on them.
    """

    def __init__(
        self,
        source: ClipSource,
        space: LatentSpace,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        workers: int = 0,
    ):
        #: frames that a latent frame stands for
        self.time = space.time
        self.path = folder / f"latents-{_name(source, space)}.safetensors"
        table = read_table(self.path)
        if table is None:
            self._build(source, space, progress, workers)
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

    def _build(
        self, source: ClipSource, space: LatentSpace, progress: Callable[[int, int], None] | None, workers: int
    ) -> None:
        device = next(space.vae.parameters()).device
        means: list[Tensor] = []
        stds: list[Tensor] = []
        rates, motions = [], []

        def decoded(index: int) -> tuple[Tensor, float, float]:
            clip = source.clip(index)
            pixels = from_uint8(clip.frames)
            return (
                (pixels.pin_memory() if device.type == "cuda" else pixels),
                clip.fps,
                mean_frame_difference(clip.frames),
            )

        for clips in _together(in_order(decoded, range(len(source)), workers), device):
            mean, std = space.encode(torch.stack([pixels for pixels, _, _ in clips]))
            means += mean.half().cpu().unbind()
            stds += std.half().cpu().unbind()
            rates += [fps for _, fps, _ in clips]
            motions += [motion for _, _, motion in clips]
            if progress:
                progress(len(means), len(source))
        table: dict[str, Tensor] = {}
        for name, rows in (("mean", means), ("std", stds)):
            same = len({r.shape for r in rows}) == 1
            table |= {name: torch.stack(rows)} if same else {f"{name}.{i}": r.contiguous() for i, r in enumerate(rows)}
        table |= {"fps": torch.tensor(rates), "motion": torch.tensor(motions)}
        with whole_file(self.path) as unfinished:
            save_file(table, unfinished)

    def __len__(self) -> int:
        return len(self.mean)

    def __call__(self, index: int, generator: torch.Generator) -> Tensor:
        """A draw of clip `index`'s latents, float32 [C, F, h, w]."""
        mean, std = self.mean[index].float(), self.std[index].float()
        return mean + std * torch.randn(mean.shape, generator=generator)


def read_table(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a cached file; None where there is none or it is damaged, so that it is made anew."""
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        return None


def _together(
    clips: Iterator[tuple[Tensor, float, float]], device: torch.device
) -> Iterator[list[tuple[Tensor, float, float]]]:
    """Neighbours that are encoded in one go: each clip alone on a CPU, else those of one shape up to what a call
    takes."""
    group: list[tuple[Tensor, float, float]] = []
    for clip in clips:
        pixels = clip[0]
        most = 1 if device.type == "cpu" else max(1, CHUNK_PIXELS * ON_ACCELERATOR // pixels[0].numel())
        if group and (group[0][0].shape != pixels.shape or len(group) >= most):
            yield group
            group = []
        group.append(clip)
    if group:
        yield group


def _name(source: ClipSource, space: LatentSpace) -> str:
    digest = hashlib.sha256(f"{VERSION}/{space.identity()}/{len(source)}".encode())
    digest.update("\n".join(source.captions()).encode())
    for i in np.linspace(0, len(source) - 1, min(PROBED, len(source))).astype(int):
        digest.update(source.clip(int(i)).frames.tobytes())
    return digest.hexdigest()[:20]
