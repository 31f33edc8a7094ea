"""Says which background a clip has, and which colours where it is plain or a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.judges.foreground import worn
from benchmarks.judges.learning import block, fit
from muybridge.data.sprites.vocabulary import BACKGROUNDS, COLOURS

Array = np.ndarray
NAMES = tuple(COLOURS)
#: A pixel is taken for background where the share of a thing is below this, and so are its neighbours.
CLEAR = 0.3


@dataclass(frozen=True)
class Backdrop:
    """What lies behind: a name of BACKGROUNDS, and the colours at top and bottom that it would have as plain or
    gradient."""

    name: str
    colours: tuple[str, str]

    def is_right(self, name: str, colours: Sequence[str]) -> bool:
        """Whether it is the background that is wanted, in the colours that are wanted (one, two or none)."""
        wanted = tuple(colours) * 2 if len(colours) == 1 else tuple(colours)
        return self.name == name and (not wanted or self.colours == wanted)


class BackdropNetwork(nn.Module):
    """[N, 4, 64, 64] (colour where it is known, and whether it is) -> logits [N, 9 + 11 + 11]: kind, top, bottom."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.trunk = nn.Sequential(
            block(4, width, 2), block(width, 2 * width, 2), block(2 * width, 3 * width, 2), block(3 * width, 4 * width)
        )
        self.head = nn.Linear(16 * width, len(BACKGROUNDS) + 2 * len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.trunk(x)
        # by height: what is above and what is below tells a gradient's two ends, and ground from sky
        pooled = torch.stack([part.mean((2, 3)) for part in rows.split(2, dim=2)], 2)
        return self.head(pooled.flatten(1))


def behind(frames: Array, seen: Array) -> Array:
    """What is known of the background: float32 [H, W, 4], colours in -1..1 (0 where unknown), and 1 where known.

    Args:
        frames: uint8 [F, H, W, 3].
        seen: float [F, H, W, 3], of `foreground.look`.
    """
    near = np.stack([cv2.dilate(s, np.ones((3, 3), np.uint8)) for s in seen[..., 0]])
    clear = near < CLEAR
    # of every pixel the median over the frames that show what is behind
    values = np.where(clear[..., None], frames.astype(np.float32), np.nan)
    known = clear.any(0)
    out = np.zeros((*known.shape, 4), np.float32)
    ordered = np.sort(values[:, known], axis=0)  # nan sorts last
    middle = (clear[:, known].sum(0) - 1) // 2
    out[known, :3] = np.take_along_axis(ordered, middle[None, :, None], 0)[0] / 127.5 - 1
    out[..., 3] = known
    return out


def fit_backgrounds(
    network: nn.Module,
    clips: Sequence[tuple[Array, Array, str, Sequence[str]]],
    steps: int,
    seed: int,
    batch: int = 64,
) -> None:
    """Fit on true clips.

    Args:
        clips: frames, what `foreground.look` says of them, the background's name and its colours.
    """
    rng = np.random.default_rng(seed)
    pictures, kinds, ends = [], [], []
    for frames, seen, name, colours in clips:
        both = [NAMES.index(c) for c in (tuple(colours) * 2)[:2]] or [-100, -100]
        for some in (slice(None), slice(int(rng.integers(0, len(frames))), None, len(frames))):  # as a picture too
            pictures.append(behind(worn(frames[some], rng), seen[some]))
            kinds.append(BACKGROUNDS.index(name))
            ends.append(both if name != "gradient" else [NAMES.index(c) for c in colours])
    inputs = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    kind, end = torch.tensor(kinds), torch.tensor(ends)

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(rng.integers(0, len(inputs), batch))
        x = inputs[rows]
        if rng.random() < 0.5:
            x = x.flip(3)
        out = network(x).float()
        a, b, c = out.split([len(BACKGROUNDS), len(NAMES), len(NAMES)], 1)
        loss = cross_entropy(a, kind[rows])
        coloured = end[rows, 0] >= 0
        if coloured.any():
            loss = loss + cross_entropy(b[coloured], end[rows][coloured, 0])
            loss = loss + cross_entropy(c[coloured], end[rows][coloured, 1])
        return loss

    fit(network, loss_of, steps, tell="background")


def backdrop_of(network: nn.Module, frames: Array, seen: Array) -> Backdrop:
    """Judge one clip or picture."""
    x = torch.from_numpy(behind(frames, seen)).permute(2, 0, 1)[None]
    with torch.no_grad():
        kind, top, bottom = network(x)[0].split([len(BACKGROUNDS), len(NAMES), len(NAMES)])
    name = BACKGROUNDS[int(kind.argmax())]
    if name == "plain":  # one colour, that of both ends together
        colour = NAMES[int((top + bottom).argmax())]
        return Backdrop(name, (colour, colour))
    return Backdrop(name, (NAMES[int(top.argmax())], NAMES[int(bottom.argmax())]))
