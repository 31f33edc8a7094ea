"""Finds the things of a frame: which pixels are theirs, and where the middle of each pixel's thing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    smooth_l1_loss,
)

from benchmarks.judges.clips import TrueClip
from benchmarks.judges.learning import Residual, block, cheap, fit

Array = np.ndarray
#: Pixels a side of what the network sees; offsets are in units of `REACH` pixels.
SIDE, REACH = 64, 16.0
#: Pixels of the smallest thing.
SMALLEST = 20
#: Votes for a thing's middle, as a share of those for the middle with most, below which there is no thing.
LEAST = 0.2
CHUNK = 64


class Finder(nn.Module):
    """[N, 6, 64, 64] (a frame, and how it differs from the clip's median) -> [N, 3, 64, 64]: the logit of a thing,
    and the offset (x, y) to that thing's middle."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.entered = nn.Sequential(block(24, width), Residual(width))
        self.halved = nn.Sequential(block(width, 2 * width, 2), Residual(2 * width))
        self.quartered = nn.Sequential(block(2 * width, 3 * width, 2), Residual(3 * width))
        self.lowest = nn.Sequential(block(3 * width, 3 * width, 2), Residual(3 * width))
        self.up3 = nn.Conv2d(3 * width, 3 * width, 1)
        self.up2 = nn.Conv2d(3 * width, 2 * width, 1)
        self.up1 = nn.Conv2d(2 * width, width, 1)
        self.out3, self.out2, self.out1 = block(3 * width, 3 * width), block(2 * width, 2 * width), block(width, width)
        self.spread = nn.Conv2d(width, 40, 1)
        self.refined = nn.Sequential(block(16, 16), nn.Conv2d(16, 3, 3, 1, 1))
        self.to(memory_format=torch.channels_last)  # a third faster

    def forward(self, x: Tensor) -> Tensor:
        a = self.entered(pixel_unshuffle(x, 2))
        b = self.halved(a)
        c = self.quartered(b)
        d = interpolate(self.up3(self.lowest(c)), scale_factor=2.0)
        c = interpolate(self.up2(self.out3(c + d)), scale_factor=2.0)
        b = interpolate(self.up1(self.out2(b + c)), scale_factor=2.0)
        fine = pixel_shuffle(self.spread(self.out1(a + b)), 2)
        return self.refined(torch.cat([fine, x.to(fine.dtype)], 1))  # outlines are as fine as the picture itself


@dataclass(frozen=True)
class Thing:
    """A thing found in a frame.

    Attributes:
        mask: bool [H, W].
        centre: (x, y), pixels.
    """

    mask: Array
    centre: tuple[float, float]


def inputs_of(frames: Array, median: Array) -> Tensor:
    """uint8 frames [N, H, W, 3] and their median [H, W, 3] or one each -> [N, 6, H, W] in about -1..1."""
    shown = frames.astype(np.float32) / 127.5 - 1
    still = median.astype(np.float32) / 127.5 - 1
    both = np.concatenate([shown, shown - np.broadcast_to(still, shown.shape)], -1)
    return torch.from_numpy(both).permute(0, 3, 1, 2)  # channels last, as convolutions like it


def median_of(frames: Array) -> Array:
    """Median over time, uint8 [H, W, 3]."""
    return np.partition(frames, len(frames) // 2, axis=0)[len(frames) // 2]


def worn(frames: Array, rng: np.random.Generator) -> Array:
    """Frames as a lossy decoder would give them: blurred, with errors in patches and in pixels. uint8 [N, H, W, 3]."""
    out = []
    for frame in frames.astype(np.float32):
        if rng.random() < 0.5:
            frame = cv2.GaussianBlur(frame, (0, 0), float(rng.uniform(0.3, 0.9)))
        if rng.random() < 0.5:
            coarse = rng.standard_normal((16, 16, 3), np.float32) * np.float32(rng.uniform(2, 9))
            fine = rng.standard_normal(frame.shape, np.float32) * np.float32(rng.uniform(1, 5))
            frame = frame + cv2.resize(coarse, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR) + fine
        out.append(np.clip(frame, 0, 255).astype(np.uint8))
    return np.stack(out)


def fit_finder(network: nn.Module, clips: Sequence[TrueClip], steps: int, seed: int, batch: int = 24) -> None:
    """Fit on the outlined frames of true clips, mirrored and worn at random; a third see no median."""
    rng = np.random.default_rng(seed)
    medians = [median_of(c.frames) for c in clips]
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)

    def loss_of(step: int) -> Tensor:
        shown, stills, inside, offsets = [], [], [], []
        for i in rng.integers(0, len(clips), batch):
            clip, k = clips[i], int(rng.integers(0, len(clips[i].outlined)))
            frame, labels = clip.frames[clip.outlined[k]], clip.labels[k]
            way = clip.centres[k][np.maximum(labels, 0)] - np.stack([x, y], -1)
            median = medians[i] if rng.random() < 0.67 else frame
            if rng.random() < 0.5:
                frame, median, labels, way = frame[:, ::-1], median[:, ::-1], labels[:, ::-1], way[:, ::-1] * [-1, 1]
            frame = worn(frame[None], rng)[0]
            shown.append(frame)
            stills.append(median)
            inside.append(labels >= 0)
            offsets.append(way / REACH)
        target = torch.from_numpy(np.stack(inside).astype(np.float32))
        wanted = torch.from_numpy(np.stack(offsets).astype(np.float32)).permute(0, 3, 1, 2)
        found = network(inputs_of(np.stack(shown), np.stack(stills))).float()
        wrong = smooth_l1_loss(found[:, 1:], wanted, reduction="none", beta=0.2).mean(1)
        return binary_cross_entropy_with_logits(found[:, 0], target) + 0.5 * (wrong * target).sum() / target.sum()

    fit(network, loss_of, steps, rate=3e-3, tell="finder")


def look(network: nn.Module, frames: Array) -> Array:
    """Share of a thing and offset to its middle in pixels, float32 [F, H, W, 3]; frames uint8 [F, 64, 64, 3].

    Raises:
        ValueError: frames of another size.
    """
    if frames.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(f"frames are {frames.shape[1:]}; the judges know {SIDE}x{SIDE} alone")
    inputs = inputs_of(frames, median_of(frames))
    with torch.no_grad(), cheap():
        found = torch.cat([network(part).float() for part in inputs.split(CHUNK)])
    found[:, 0] = found[:, 0].sigmoid()
    found[:, 1:] *= REACH
    return found.permute(0, 2, 3, 1).numpy()


def things_of(seen: Array, most: int = 4) -> list[Thing]:
    """The things of one frame, the largest first: pixels go to the thing whose middle they point at.

    Args:
        seen: float [H, W, 3], of `look`.
        most: things at most.
    """
    mask = seen[..., 0] > 0.5
    rows, columns = np.nonzero(mask)
    if len(rows) < SMALLEST:
        return []
    votes = np.stack([columns + seen[rows, columns, 1], rows + seen[rows, columns, 2]], 1)
    height, width = mask.shape
    places = np.clip(np.rint(votes), -8, [width + 7, height + 7]).astype(int) + 8
    heap = np.zeros((height + 16, width + 16), np.float32)
    np.add.at(heap, (places[:, 1], places[:, 0]), 1)
    heap = cv2.GaussianBlur(heap, (0, 0), 2.0)
    peaks: list[tuple[float, float]] = []
    largest = 0
    for _ in range(most):
        row, column = np.unravel_index(int(heap.argmax()), heap.shape)
        area = int((np.hypot(votes[:, 0] - column + 8, votes[:, 1] - row + 8) <= 6).sum())
        if area < max(SMALLEST, LEAST * largest):
            break
        largest = max(largest, area)
        peaks.append((float(column) - 8, float(row) - 8))
        cv2.circle(heap, (int(column), int(row)), 7, 0, -1)
    if not peaks:
        peaks = [tuple(votes.mean(0).tolist())]
    nearest = np.hypot(*(votes[:, None] - np.array(peaks)[None]).transpose(2, 0, 1)).argmin(1)
    found = []
    for i in range(len(peaks)):
        own = np.zeros_like(mask)
        own[rows[nearest == i], columns[nearest == i]] = True
        if own.sum() >= SMALLEST:
            found.append(Thing(own, (float(columns[nearest == i].mean()), float(rows[nearest == i].mean()))))
    return sorted(found, key=lambda t: -int(t.mask.sum()))
