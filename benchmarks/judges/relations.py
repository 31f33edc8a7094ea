"""Says how one thing stands to another, from the places and outlines of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.judges.clips import TrueClip
from benchmarks.judges.learning import fit
from benchmarks.judges.things import Likely

Array = np.ndarray
#: What is told apart. Who rides stands on; which of two that overlap is in front is not judged.
CLASSES = ("above", "below", "left of", "right of", "on", "overlapping")
MERGED = {"riding": "on", "behind": "overlapping", "in front of": "overlapping"}


def relation_class(relation: str, side: str) -> str:
    """The class of a relation of `vocabulary.RELATIONS`, "following" or "orbiting"; "" where there is none.

    Args:
        side: where the first is, of things that are beside each other.
    """
    if relation == "beside":
        return f"{side} of"
    name = MERGED.get(relation, relation)
    return name if name in CLASSES else ""


def standing(first: Array, second: Array) -> Array:
    """How two outlines stand to each other, float32 [9], in units of their mean size: the way from the second's middle
    to the first's (x, y) and its size each way, the gaps between their boxes (x, y; below 0 they overlap), the log of
    the ratio of their areas, and of their heights and widths.

    Args:
        first, second: bool [H, W], not empty.
    """
    boxes = []
    for mask in (first, second):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    (l1, t1, r1, b1), (l2, t2, r2, b2) = boxes
    size = max(1.0, (r1 - l1 + b1 - t1 + r2 - l2 + b2 - t2) / 4)
    dx, dy = ((l1 + r1) - (l2 + r2)) / 2 / size, ((t1 + b1) - (t2 + b2)) / 2 / size
    gaps = [(max(l1, l2) - min(r1, r2)) / size, (max(t1, t2) - min(b1, b2)) / size]
    ratios = [np.log(first.sum() / second.sum()), np.log((b1 - t1) / (b2 - t2)), np.log((r1 - l1) / (r2 - l2))]
    return np.array([dx, dy, abs(dx), abs(dy), *gaps, *ratios], np.float32)


class RelationNetwork(nn.Sequential):
    """[N, 9] -> logits [N, len(CLASSES)]."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, len(CLASSES)))


def fit_relations(network: nn.Module, clips: Sequence[TrueClip], steps: int, seed: int, batch: int = 64) -> None:
    """Fit on the true outlines of two things in a relation."""
    rows, labels = [], []
    for clip in clips:
        wanted = relation_class(clip.told["relation"], clip.told["side"])
        if clip.told["layout"] != "related" or not wanted:
            continue
        for outlines in clip.labels:
            if (outlines == 0).sum() > 12 and (outlines == 1).sum() > 12:
                rows.append(standing(outlines == 0, outlines == 1))
                labels.append(CLASSES.index(wanted))
    inputs, targets = torch.from_numpy(np.stack(rows)), torch.tensor(labels)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def loss_of(step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(0, len(inputs), batch))
        x = inputs[chosen]
        shaken = x + 0.03 * torch.randn(x.shape, generator=generator)
        return cross_entropy(network(shaken).float(), targets[chosen], label_smoothing=0.02)

    fit(network, loss_of, steps, rate=5e-3, tell="relation")


def relation_of(network: nn.Module, found: Likely, first: int, second: int) -> str:
    """How the thing likeliest to be one concept stands to that likeliest to be another, over the frames that show two.

    Args:
        first, second: the concepts' places.

    Returns:
        A name of CLASSES, or "" where no frame shows two things.
    """
    rows = []
    for things, logs in zip(found.things, found.logs, strict=True):
        if len(things) < 2:
            continue
        sums = logs[:, first][:, None] + logs[:, second][None]
        np.fill_diagonal(sums, -np.inf)
        a, b = np.unravel_index(int(sums.argmax()), sums.shape)
        rows.append(standing(things[a].mask, things[b].mask))
    if not rows:
        return ""
    with torch.no_grad():
        mean = network(torch.from_numpy(np.stack(rows))).log_softmax(1).mean(0)
    return CLASSES[int(mean.argmax())]
