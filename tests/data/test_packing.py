"""Rows of clips: each clip once an epoch, no row over its budget, little of it empty, the same whoever computes it; T18
and T20 of spec 04."""

import numpy as np
import pytest
import torch

from muybridge.data.latents import ClipLatents
from muybridge.data.packing import RowPlan, bucket, pack
from muybridge.data.registry import make_source
from muybridge.errors import UserError
from muybridge.learning.draws import Draws
from muybridge.models.latent.video_space import VideoSpace
from muybridge.training.packing import RowMaker
from tests.models.test_causal_autoencoder import causal

#: Tokens of a clip, and how many there are: pictures, and clips of two lengths and sizes.
KINDS = {64: 300, 192: 120, 320: 90, 480: 60}


def numbered():
    ends = np.cumsum([0, *KINDS.values()])
    return [np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False)]


def test_best_fit_by_hand():
    assert pack([5, 4, 3, 3, 2, 1], 8) == [[0, 2], [1, 3, 5], [4]]
    assert pack([], 8) == []
    assert bucket([1, 0, 1, 1, 0], [3, 4, 3, 3, 4], 8) == [[1, 4], [0, 2], [3]]
    for fill in (lambda: pack([3, 9], 8), lambda: bucket([0], [9], 8)):
        with pytest.raises(UserError, match="token_budget 8: the largest clips have 9"):
            fill()


@pytest.mark.parametrize("batching", ["pack", "bucket"])
def test_an_epoch_shows_every_clip_once_within_the_budget(batching):
    sizes, clips = list(KINDS), numbered()
    plan = RowPlan(clips, sizes, 1024, batching, seed=3)
    size_of = {int(i): size for size, bucket in zip(sizes, clips, strict=True) for i in bucket}
    epochs = [plan.epoch(seed) for seed in (1, 2)]
    for rows in epochs:
        assert sorted(i for row in rows for i in row) == list(range(sum(KINDS.values())))
        totals = [sum(size_of[i] for i in row) for row in rows]
        assert max(totals) <= 1024 and len(rows) == len(plan.rows)
        assert plan.wasted == pytest.approx(1 - sum(totals) / (1024 * len(rows)))
        if batching == "bucket":
            assert all(len({size_of[i] for i in row}) == 1 for row in rows)
    assert epochs[0] != epochs[1] and plan.epoch(1) == epochs[0]
    together = [{frozenset(row) for row in rows} for rows in epochs]
    assert len(together[0] & together[1]) < len(plan.rows) / 10  # other clips share a row


def test_packs_waste_little_where_buckets_waste_more():
    packs, buckets = (RowPlan(numbered(), list(KINDS), 1024, how).wasted for how in ("pack", "bucket"))
    assert packs < 0.05 and buckets > packs
    mixed = RowPlan(numbered(), list(KINDS), 1024).rows
    assert np.mean([len(set(row)) > 1 for row in mixed]) > 0.5  # videos and pictures in one row


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    world = {"source": "world", "num_clips": 12}
    sizes = [{"height": 16, "width": 16, "num_frames": 1}, {"height": 16, "width": 24, "num_frames": 5}]
    source = make_source({"source": "mix", "of": [{**world, **size} for size in sizes]})
    return source, ClipLatents(source, VideoSpace(causal().float()), tmp_path_factory.mktemp("latents"))


def maker(latents, total, batching="pack"):
    source, found = latents
    return RowMaker(
        source, None, 0, total, 5, latents=found, batching=batching, budget=80,
        tokens=lambda shape: shape[1] * shape[2] * shape[3],
    )  # fmt: skip


def test_rows_are_the_same_however_they_are_split(latents):
    rows = maker(latents, 4)
    whole = rows(3, range(4))
    parts = [rows(3, [place]) for place in range(4)]
    assert whole.total == len(whole.clips) == sum(len(p.clips) for p in parts)
    assert list(whole.places) == [n for p in parts for n in p.places] == list(range(whole.total))
    for a, b in zip(whole.clips, (c for p in parts for c in p.clips), strict=True):
        assert torch.equal(a, b)
    assert all(p.total == whole.total for p in parts)
    again = maker(latents, 4)(3, range(4))  # nothing was drawn before: a resumed run
    assert all(torch.equal(a, b) for a, b in zip(whole.clips, again.clips, strict=True))
    assert {tuple(c.shape) for step in range(3) for c in rows(step, range(4)).clips} == {(4, 1, 4, 4), (4, 2, 4, 6)}


def test_t18_times_of_a_step_are_strata_over_all_its_clips(latents):
    rows = maker(latents, 4)
    parts = [rows(0, [place]) for place in range(4)]
    times = torch.cat([Draws(p).times() for p in parts])
    total = len(times)
    assert total == parts[0].total
    assert sorted((times * total).floor().long().tolist()) == list(range(total))
    assert torch.equal(torch.cat([Draws(p).times() for p in [rows(0, range(4))]]), times)


def test_an_epoch_of_steps_shows_every_clip(latents):
    source, _ = latents
    for batching in ("pack", "bucket"):
        rows = maker(latents, 1, batching)
        seen = [i for step in range(rows.epoch) for i in rows.row(step, 0)]
        assert sorted(seen) == list(range(len(source)))
        if batching == "bucket":
            assert all(len({c.shape for c in rows(step, [0]).clips}) == 1 for step in range(rows.epoch))


def test_loops_in_a_causal_space_are_not_turned(latents):
    source, found = latents
    source.loops = True
    assert not maker(latents, 1).rolls and found.time == 4
