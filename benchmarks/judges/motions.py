"""Says how the thing of a clip moves: from its outline's moments over time and from how far it turns between frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.judges.learning import fit
from muybridge.data.sprites.vocabulary import MOTIONS

Array = np.ndarray
#: What one thing can do.
CLASSES = tuple(m for m in MOTIONS if m != "following")
#: Directions and rings of the polar picture in which turns are sought.
ANGLES, RINGS = 48, 10
#: Frames between which turns are sought.
LAGS = (1, 4)
MIRRORED = {"left": "right", "right": "left"}
REVERSED = {"left": "right", "right": "left", "up": "down", "down": "up", "towards": "away", "away": "towards"}
#: Share of a thing's energy that its turned picture may differ by without being seen.
FLOOR = 0.02
#: Correlation of a thing with itself turned, above which nobody sees that it turns.
SAME_TURNED = 0.97


@dataclass(frozen=True)
class Track:
    """A thing over time.

    Attributes:
        moments: float32 [F, 11]: whether it is there; middle (x, y) from the picture's, log of its area, standard
            deviations along x and y, and covariance, in units of 16 pixels; its share along the left, right, top and
            bottom border.
        turns: float32 [F, len(LAGS), ANGLES]: correlation of a frame with the frame LAGS later, turned clockwise by
            each angle.
    """

    moments: Array
    turns: Array

    def mirrored(self) -> Track:
        """Left and right exchanged."""
        order = [0, 1, 2, 3, 4, 5, 6, 8, 7, 9, 10]
        moments = self.moments[:, order] * np.array([1, -1, 1, 1, 1, 1, -1, 1, 1, 1, 1], np.float32)
        return Track(moments, _opposite(self.turns))

    def reversed(self) -> Track:
        """The last frame first."""
        turns = _opposite(self.turns)
        for i, lag in enumerate(LAGS):
            count = max(1, len(turns) - lag)
            turns[:count, i] = turns[:count, i][::-1].copy()
            turns[count:, i] = turns[count - 1, i]
        return Track(self.moments[::-1].copy(), turns)

    def rows(self) -> Array:
        """All features of each frame, float32 [F, 11 + len(LAGS) * ANGLES]."""
        return np.concatenate([self.moments, self.turns.reshape(len(self.turns), -1)], 1)


def _opposite(turns: Array) -> Array:
    return np.roll(turns[..., ::-1], 1, axis=-1)


def track_of(frames: Array, seen: Array) -> Track:
    """Follow what was found.

    Args:
        frames: uint8 [F, H, W, 3].
        seen: float [F, H, W, 3], of `foreground.look`.
    """
    shares = np.where(seen[..., 0] > 0.3, seen[..., 0], 0).astype(np.float32)
    moments = np.stack([_moments(s) for s in shares])
    polar = np.stack([_polar(f, s, m) for f, s, m in zip(frames, shares, moments, strict=True)])
    # what is the same all around says nothing of a turn; where nearly all is, every turn is as likely
    floor = FLOOR * float((polar**2).sum((1, 2, 3)).mean()) + 1e-6
    polar = polar - polar.mean(1, keepdims=True)
    spectra = np.fft.rfft(polar, axis=1)
    norms = np.sqrt((polar**2).sum((1, 2, 3)))
    turns = np.zeros((len(frames), len(LAGS), ANGLES), np.float32)
    for i, lag in enumerate(LAGS):
        count = max(1, len(frames) - lag)
        first, later = np.arange(count), np.minimum(np.arange(count) + lag, len(frames) - 1)
        crossed = (spectra[first].conj() * spectra[later]).sum((2, 3))
        matched, most = np.fft.irfft(crossed, ANGLES, axis=1), (norms[first] * norms[later])[:, None]
        turns[:count, i] = (matched + floor) / (most + floor)
        turns[count:, i] = turns[count - 1, i]
    return Track(moments, turns)


def _moments(share: Array) -> Array:
    height, width = share.shape
    area = float(share.sum())
    if area < 8:
        return np.zeros(11, np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cx, cy = float((x * share).sum() / area), float((y * share).sum() / area)
    xx, yy = float(((x - cx) ** 2 * share).sum() / area), float(((y - cy) ** 2 * share).sum() / area)
    xy = float(((x - cx) * (y - cy) * share).sum() / area)
    sides = [share[:, 0].mean(), share[:, -1].mean(), share[0].mean(), share[-1].mean()]
    middle = [(cx - (width - 1) / 2) / 16, (cy - (height - 1) / 2) / 16]
    return np.array([1, *middle, np.log(area / 256), xx**0.5 / 16, yy**0.5 / 16, xy / 256, *sides], np.float32)


def _polar(frame: Array, share: Array, moments: Array) -> Array:
    """The thing around its middle, float32 [ANGLES, RINGS, 4]."""
    height, width = share.shape
    picture = np.dstack([(frame.astype(np.float32) / 127.5 - 1) * share[..., None], share])
    middle = (float(moments[1] * 16 + (width - 1) / 2), float(moments[2] * 16 + (height - 1) / 2))
    radius = max(4.0, 2.2 * 16 * float((moments[4] ** 2 + moments[5] ** 2) / 2) ** 0.5)
    polar = cv2.warpPolar(picture, (RINGS, ANGLES), middle, radius, cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS)
    return polar * np.sqrt(np.arange(1, RINGS + 1, dtype=np.float32))[None, :, None]


def looks_the_same_turned(frames: Array, seen: Array) -> bool:
    """Whether a thing that spins looks as if it stood still.

    Args:
        frames, seen: of a true clip of it spinning, as of `track_of`.
    """
    return float(track_of(frames, seen).turns[:, -1, 0].min()) > SAME_TURNED


class MotionNetwork(nn.Module):
    """[N, features, F] -> logits [N, len(CLASSES)], for any number of frames."""

    def __init__(self, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        inside = 11 + len(LAGS) * ANGLES
        for dilation in (1, 1, 2, 4):
            layers += [nn.Conv1d(inside, width, 3, padding=dilation, dilation=dilation, padding_mode="replicate"),
                       nn.BatchNorm1d(width), nn.ReLU()]  # fmt: skip
            inside = width
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * width, len(CLASSES)))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.trunk(x)
        ends = [rows[..., 0], rows[..., -1]]
        return self.head(torch.cat([rows.mean(2), rows.amax(2), *ends], 1))


def fit_motions(
    network: nn.Module, tracks: Sequence[Track], motions: Sequence[str], steps: int, seed: int, batch: int = 64
) -> None:
    """Fit on tracks of true clips and what they do; mirrored, reversed and shaken at random."""
    rng = np.random.default_rng(seed)
    rows: list[Array] = []
    labels: list[int] = []
    for track, motion in zip(tracks, motions, strict=True):
        reverse = REVERSED.get(motion, motion)
        for one, name in ((track, motion), (track.reversed(), reverse)):
            rows += [one.rows(), one.mirrored().rows()]
            labels += [CLASSES.index(name), CLASSES.index(MIRRORED.get(name, name))]
    inputs = torch.from_numpy(np.stack(rows)).transpose(1, 2).contiguous()
    targets = torch.tensor(labels)
    shake = torch.zeros(inputs.shape[1], 1)
    shake[1:7, 0] = torch.tensor([0.03, 0.03, 0.06, 0.02, 0.02, 0.01])
    shake[11:] = 0.03
    generator = torch.Generator().manual_seed(seed)

    def loss_of(step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(0, len(inputs), batch))
        x = inputs[chosen]
        x = x + torch.randn(x.shape, generator=generator) * shake * float(rng.random() < 0.7)
        return cross_entropy(network(x).float(), targets[chosen], label_smoothing=0.05)

    fit(network, loss_of, steps, tell="motion")


def motion_of(network: nn.Module, frames: Array, seen: Array) -> str:
    """Judge one clip: a name of CLASSES."""
    x = torch.from_numpy(track_of(frames, seen).rows()).T[None]
    with torch.no_grad():
        return CLASSES[int(network(x)[0].argmax())]
