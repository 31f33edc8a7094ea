"""Is what happens between two frames a dissolve? Judged from thumbnails alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: A dissolve changes the coarse picture by at least this, root mean square grey levels, and lasts at least this,
#: seconds.
SMALLEST, SHORTEST, LONGEST = 9.0, 0.3, 3.2
#: and at this share of places or more (participation ratio of the change).
SPREAD = 0.1
#: and so that at least this share of it rises together, on average.
FOLLOWING = 0.55
#: Mixing two pictures lowers the contrast: the variance dips by w (1 - w) var(B - A). At least this share of it must be
#: seen.
DIP = 0.5


@dataclass
class Look:
    """What is kept of one frame: when it was, and its thumbnail, float32 [16, 24, 3]."""

    time: float
    thumb: np.ndarray

    @cached_property
    def coarse(self) -> np.ndarray:
        """4 x 6 places: fine textures that move average out, what a dissolve changes stays."""
        return self.thumb.reshape(4, 4, 6, 4, 3).mean((1, 3))

    @cached_property
    def variance(self) -> float:
        return float(self.thumb.var((0, 1)).sum())


#: How far a frame's share of the change may be from its share of the time.
UNEVEN = 0.14


def even_pairs(looks: Sequence[Look]) -> np.ndarray:
    """Which pairs of looks might be the ends of a dissolve, bool [N, N]: much changes, in many places, and evenly
    between them.

    What `dissolve_quality` asks first, for all pairs at once: with the Gram matrix G of the coarse pictures, the share
    of the change from i to j that is done at k is (G_kj - G_ki - G_ij + G_ii) / |c_j - c_i|^2.
    """
    coarse = np.stack([x.coarse.ravel() for x in looks])
    times = np.array([x.time - looks[0].time for x in looks], np.float32)
    change = coarse[None] - coarse[:, None]
    squares = np.square(change)
    power = squares.sum(-1)
    spread = power**2 >= SPREAD * coarse.shape[1] * np.square(squares).sum(-1)
    good = spread & (power >= SMALLEST**2 * coarse.shape[1])
    gram = coarse @ coarse.T
    own = np.diag(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        done = (gram[None] - gram[:, None, :] - gram[:, :, None] + own[:, None, None]) / power[:, :, None]
        due = (times[None, None] - times[:, None, None]) / (times[None] - times[:, None])[:, :, None]
    done -= due
    wrong = np.abs(done) > UNEVEN + 1e-2
    wrong &= (times[None, None] > times[:, None, None]) & (times[None, None] < times[None, :, None])
    good &= ~wrong.any(-1)
    return np.asarray(good)


def dissolve_quality(looks: Sequence[Look], first: Look, last: Look) -> float | None:
    """How well the frames between are A + w (B - A) with w rising evenly; None if they are not.

    Also asked: A and B differ much and not in one place alone, and the rise stops: what goes on before and after at the
    same pace is a motion, not a dissolve.
    """
    a, change = first.coarse, (last.coarse - first.coarse).ravel()
    power = float(change @ change)
    size = float(np.sqrt(power / change.size))
    if size < SMALLEST or power**2 < SPREAD * change.size * float((change**4).sum()):
        return None
    length = last.time - first.time

    def weight(look: Look) -> float:
        return float((look.coarse - a).ravel() @ change) / power

    heavy = np.abs(change) / np.abs(change).sum()
    weights, shares = [0.0], []
    for look in looks:
        if not first.time < look.time < last.time:
            continue
        value, due = weight(look), (look.time - first.time) / length
        if abs(value - due) > UNEVEN:
            return None
        # the share of the change whose places follow the same rise; where things move, places change one after another
        own = np.abs((look.coarse - a).ravel() - value * change) < 0.22 * np.abs(change)
        shares.append(float(heavy[own].sum()))
        weights.append(value)
    if len(weights) < 4 or (np.diff([*weights, 1.0]) < -0.02).any() or np.mean(shares) < FOLLOWING:
        return None
    if _dip(looks, first, last) < DIP:
        return None
    reach = min(0.4, 0.6 * length)
    before = [x for x in looks if first.time - reach - 0.02 <= x.time < first.time]
    after = [x for x in looks if last.time < x.time <= last.time + reach + 0.02]
    if len(before) < 2 or len(after) < 2:
        return None
    # the pace of the rise just outside, as a share of the pace inside
    earlier = -weight(before[0]) / ((first.time - before[0].time) / length)
    later = (weight(after[-1]) - 1) / ((after[-1].time - last.time) / length)
    if max(abs(earlier), abs(later)) > 0.6:
        return None
    return size * float(np.mean(shares)) * (1 - 0.5 * max(abs(earlier), abs(later)))


def _dip(looks: Sequence[Look], first: Look, last: Look) -> float:
    """How far the variance sinks between, over what mixing explains: 1 in a dissolve, 0 where things only move."""
    due, seen = 0.0, 0.0
    between = float((last.thumb - first.thumb).var((0, 1)).sum())
    for look in looks:
        if first.time < look.time < last.time:
            w = (look.time - first.time) / (last.time - first.time)
            due += w * (1 - w) * between
            seen += (1 - w) * first.variance + w * last.variance - look.variance
    return seen / due if due > 0 else 0.0
