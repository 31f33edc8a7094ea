"""Says which of all concepts a thing is, from crops of it without what lies behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pixel_unshuffle

from benchmarks.judges.foreground import Thing, things_of, worn
from benchmarks.judges.learning import Residual, block, cheap, fit
from muybridge.data.emoji import group_of
from muybridge.data.sprites.cutouts import Cutout, Cutouts, recolour
from muybridge.data.sprites.vocabulary import COLOURS

Array = np.ndarray
#: Pixels a side of a crop.
CROP = 32
#: Frames of a clip that are looked at.
LOOKS = 8
#: Share of the crops that are turned at will, turned a little, mirrored, recoloured, and partly hidden.
TURNED, TILTED, MIRRORED, RECOLOURED, HIDDEN = 0.25, 0.1, 0.25, 0.12, 0.12
#: Half of a thing's longer side, pixels.
RADII = (6.0, 29.0)


def concept_group(concept: str) -> str:
    """The concept of which sex and skin tone are left out: one thing for the judge."""
    return group_of(concept)


def groups_of(cutouts: Cutouts) -> list[str]:
    """All concepts that there are, as groups."""
    return sorted({concept_group(c) for c in cutouts.concepts})


class ThingNetwork(nn.Module):
    """[N, 4, 32, 32] (a crop's colours, 0 behind the thing, and its outline) -> logits [N, concepts]."""

    def __init__(self, concepts: int, width: int = 32):
        super().__init__()
        self.trunk = nn.Sequential(
            block(16, width), Residual(width), block(width, 2 * width, 2), Residual(2 * width),
            block(2 * width, 4 * width, 2), Residual(4 * width), nn.Flatten(),
            nn.Linear(64 * width, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(256, concepts)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(pixel_unshuffle(x, 2)))


def crop_of(frame: Array, mask: Array) -> Array:
    """The square around a thing, float32 [4, CROP, CROP]: colours in -1..1, 0 outside the mask, and the mask.

    Args:
        frame: uint8 [H, W, 3].
        mask: bool [H, W], not empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    cy, cx = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 3.0
    scale = side / CROP
    share = mask.astype(np.float32)[..., None]
    picture = np.concatenate([(frame.astype(np.float32) / 127.5 - 1) * share, share], -1)
    corner = (cx - side / 2 + scale / 2, cy - side / 2 + scale / 2)
    way = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]], np.float32)
    return cv2.warpAffine(picture, way, (CROP, CROP), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP).transpose(2, 0, 1)


def drawn(pixels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A cut-out of a random size, turn and look, before a random colour: frame uint8 [64, 64, 3], mask bool [64, 64].

    Args:
        pixels: uint8 [h, w, 4].
    """
    radius = float(np.exp(rng.uniform(*np.log(RADII))))
    scale = 2 * radius / (max(pixels.shape[:2]) - 4)  # two transparent texels around
    size = [max(3, round(s * scale)) for s in pixels.shape[1::-1]]
    share = pixels[..., 3:].astype(np.float32) / 255
    small = cv2.resize(np.concatenate([pixels[..., :3] * share, share], -1), size, interpolation=cv2.INTER_AREA)
    angle, kind = 0.0, rng.random()
    if kind < TURNED:
        angle = float(rng.uniform(0, 360))
    elif kind < TURNED + TILTED:
        angle = float(rng.uniform(-36, 36))
    way = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), angle, 1.0)
    way[:, 2] += 31.5 - np.array([size[0] - 1, size[1] - 1]) / 2 + rng.uniform(-0.5, 0.5, 2)
    if rng.random() < MIRRORED:
        small = small[:, ::-1]
    placed = cv2.warpAffine(small, way, (64, 64), flags=cv2.INTER_LINEAR)
    cover = placed[..., 3:]
    colour = rng.uniform(0, 255, 3).astype(np.float32)
    frame = placed[..., :3] + (1 - cover) * colour
    outline = cv2.GaussianBlur(cover[..., 0], (0, 0), float(rng.uniform(0.2, 0.8))) > rng.uniform(0.3, 0.65)
    if rng.random() < HIDDEN:
        side, reach = int(rng.integers(0, 4)), int(31.5 + rng.uniform(-0.3, 0.6) * radius)
        outline = np.rot90(outline, side).copy()
        outline[reach:] = False
        outline = np.rot90(outline, -side)
    return worn(np.clip(frame, 0, 255)[None], rng)[0], outline


def crops_drawn(
    pixels: Callable[[int], Array], things: Sequence[Cutout], rng: np.random.Generator, chosen: Array
) -> Array:
    """Crops of chosen things, float32 [N, 4, CROP, CROP].

    Args:
        pixels: a thing's place -> its pixels, uint8 [K, h, w, 4].
    """
    out = []
    for i in chosen:
        thing = things[i]
        frames = pixels(int(i))
        shown = frames[int(rng.integers(0, len(frames)))]
        if not thing.noun.coloured and rng.random() < RECOLOURED:
            shown = recolour(shown[None], tuple(COLOURS)[int(rng.integers(0, len(COLOURS)))])[0]
        for _ in range(10):
            frame, mask = drawn(shown, rng)
            if mask.sum() >= 12:
                break
        else:  # thin as a thread: its whole box
            mask = np.ones_like(mask)
        out.append(crop_of(frame, mask))
    return np.stack(out)


def fit_things(network: nn.Module, cutouts: Cutouts, steps: int, seed: int, batch: int = 96) -> None:
    """Fit on crops of all concepts, each as often as the others."""
    groups = groups_of(cutouts)
    rng, order = np.random.default_rng(seed), Random(seed)
    by_group: dict[str, list[int]] = {g: [] for g in groups}
    things = [c for kind in sorted(cutouts.all) for c in cutouts.all[kind]]
    for i, thing in enumerate(things):
        by_group[concept_group(thing.noun.concept)].append(i)
    waiting: list[int] = []
    # all of them are some 250 MB, and the source's own store of pictures forgets most before they come again
    pixels = cache(lambda i: cutouts.picture(things[i]).frames)

    def loss_of(step: int) -> Tensor:
        while len(waiting) < batch:
            waiting.extend(order.sample(range(len(groups)), len(groups)))
        labels, waiting[:batch] = waiting[:batch], []
        chosen = np.array([order.choice(by_group[groups[g]]) for g in labels])
        crops = torch.from_numpy(crops_drawn(pixels, things, rng, chosen))
        return cross_entropy(network(crops).float(), torch.tensor(labels), label_smoothing=0.05)

    fit(network, loss_of, steps, rate=3e-3, tell="thing")


@dataclass(frozen=True)
class Likely:
    """What a clip's things are likely to be.

    Attributes:
        scores: float32 [concepts], of each concept the log-probability that the thing most like it has, averaged over
            frames in which anything was found; empty where nothing was.
        things: those frames' things.
        logs: their log-probabilities, float32 [things, concepts] for each frame.
    """

    scores: Array
    things: list[list[Thing]]
    logs: list[Array]

    def present(self, group: int) -> bool:
        """Whether in half of the frames or more some thing is likelier this concept than any other."""
        shown = [bool((logs.argmax(1) == group).any()) for logs in self.logs]
        return bool(shown) and sum(shown) * 2 >= len(shown)

    def rank(self, group: int) -> int:
        """A concept's place among all, 0 the likeliest; the number of concepts where nothing was found."""
        if not len(self.scores):
            return 1_000_000
        return int((self.scores > self.scores[group]).sum())


def likely(network: nn.Module, frames: Array, seen: Array, most: int = 4) -> Likely:
    """Judge one clip or picture.

    Args:
        frames: uint8 [F, H, W, 3].
        seen: float [F, H, W, 3], of `foreground.look`.
        most: things at most in a frame.
    """
    looked = np.unique(np.linspace(0, len(frames) - 1, min(LOOKS, len(frames))).round().astype(int))
    found = [(f, things_of(seen[f], most)) for f in looked]
    found = [(f, things) for f, things in found if things]
    if not found:
        return Likely(np.zeros(0, np.float32), [], [])
    crops = np.stack([crop_of(frames[f], t.mask) for f, things in found for t in things])
    with torch.no_grad(), cheap():
        logs = network(torch.from_numpy(crops)).float().log_softmax(1).numpy()
    parts = np.split(logs, np.cumsum([len(things) for _, things in found])[:-1])
    return Likely(np.mean([p.max(0) for p in parts], axis=0), [things for _, things in found], parts)
