"""Clips of several sizes and lengths: each goes to the nearest bucket, batches hold one shape, and every clip is
seen."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from muybridge.data.clips import FirstClips, buckets_of
from muybridge.data.folder import LEAST_PIXELS, FolderConfig, FolderSource, _bucket
from muybridge.data.latents import ClipLatents
from muybridge.data.registry import make_source
from muybridge.data.video_io import write_video
from muybridge.errors import UserError
from muybridge.models.latent.space import LatentSpace
from muybridge.training.batches import BatchMaker
from muybridge.training.trainer import Trainer
from tests.conftest import TINY_VAE, with_training

BUCKETS = ((8, 16, 16), (4, 16, 16), (4, 16, 32))
#: frames, height, width of the videos, and the bucket each belongs to
VIDEOS = [(8, 48, 48), (9, 40, 44), (5, 48, 48), (6, 32, 64), (8, 32, 64), (4, 64, 64), (3, 40, 40)]
WANTED = {0: (8, 16, 16), 1: (8, 16, 16), 2: (4, 16, 16), 3: (4, 16, 32), 4: (4, 16, 32), 5: (4, 16, 16)}


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, (frames, height, width) in enumerate(VIDEOS):
        video = np.random.default_rng(i).integers(0, 255, (1, height, width, 3)).repeat(frames, 0).astype(np.uint8)
        write_video(video, folder / f"{i}.mp4", 8)
        (folder / f"{i}.txt").write_text(f"clip {i}")
    return folder


def config(clips, **changes):
    return FolderConfig(str(clips), fps=0.0, buckets=BUCKETS, split="all", store=str(clips.parent / "store"), **changes)


def test_clips_go_to_the_nearest_bucket(clips):
    source = FolderSource(config(clips))
    found = {}
    for i in range(len(source)):
        clip = source.clip(i)
        found.setdefault(int(clip.caption[-1]), set()).add(clip.frames.shape[:3])
        assert clip.frames.shape[:3] == source.shapes[i] and clip.fps == pytest.approx(8, abs=0.01)
    assert found == {k: {v} for k, v in WANTED.items()}  # the seventh is too short for any: its line is in the report
    assert "6.mp4" in (clips.parent / "store" / "report.jsonl").read_text()
    assert sorted(len(b) for b in buckets_of(source)) == [2, 2, 3]  # the video of 8 wide frames gives two pieces
    assert FirstClips(source, 2, largest=True).shapes == [(8, 16, 16), (8, 16, 16)]


def test_batches_hold_one_shape_and_an_epoch_everything(clips):
    source = FolderSource(config(clips))
    maker = BatchMaker(source, None, 0, 2, seed=3)
    steps = maker.epoch // 2
    seen, shapes = [], []
    for step in range(steps):
        shapes.append(tuple(maker(step, range(2)).video.shape))
        seen += [maker.index_of(step, place) for place in range(2)]
    assert set(seen) == set(range(len(source))) and len(set(shapes)) == 3
    again = BatchMaker(source, None, 0, 2, seed=3)
    assert [again.index_of(steps + 1, p) for p in range(2)] == [maker.index_of(steps + 1, p) for p in range(2)]
    split = [maker.index_of(0, p) for p in (1,)] + [maker.index_of(0, p) for p in (0,)]
    assert set(split) == set(seen[:2])


@pytest.mark.slow
def test_a_model_trains_and_resumes_on_buckets(clips, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("muybridge.data.packs.VALIDATION_SHARE", 0.5)
    data = {"source": "folder", "path": str(clips), "fps": 0.0, "buckets": BUCKETS, "store": str(tmp_path / "store")}
    recipe = with_training(replace(tiny_recipe, data=data), steps=4, batch_size=2, validate_every=2)
    whole = Trainer(recipe, tmp_path / "whole").run()
    Trainer(recipe, tmp_path / "parts").run(until=2)
    parts = Trainer(recipe, tmp_path / "parts").run()
    weights = "network/diffusion_pytorch_model.safetensors"
    assert (whole / weights).read_bytes() == (parts / weights).read_bytes()
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert sum("validation_error" in line for line in log) >= 2


def test_latents_of_several_shapes(clips, tmp_path):
    vae = AutoencoderKL(**TINY_VAE).eval()
    source, space = FolderSource(config(clips)), LatentSpace(vae)
    latents = ClipLatents(source, space, tmp_path / "cache")
    again = ClipLatents(source, space, tmp_path / "cache")
    for i, (frames, height, width) in enumerate(source.shapes):
        assert latents.mean[i].shape == (4, frames, height // 2, width // 2)
        assert torch.equal(latents.mean[i], again.mean[i])
    maker = BatchMaker(source, None, 0, 2, seed=3, latents=latents)
    assert maker(0, range(2)).video.shape[0] == 2


def test_bad_buckets(clips):
    folder = {
        "source": "folder",
        "path": str(clips),
        "fps": 0.0,
        "buckets": BUCKETS,
        "store": str(clips.parent / "store"),
    }
    with pytest.raises(UserError, match=r"\[frames, height, width\]"):
        make_source({"source": "mix", "of": [{**folder, "buckets": [[8, 16]]}]}, "all")
    with pytest.raises(UserError, match=r"\[frames, height, width\]"):
        FolderConfig(str(clips), buckets=((8, 16),))


def test_a_mix_of_sizes_has_their_buckets(clips, monkeypatch):
    """Clips with buckets of their own, pictures twice an epoch, and a generated world: every batch has one shape."""
    folder = {"source": "folder", "path": str(clips), "fps": 0.0, "buckets": BUCKETS, "store": str(clips.parent / "s")}
    world = {"source": "world", "height": 16, "width": 24, "num_clips": 5}
    parts = [folder, {**world, "num_frames": 1, "times": 2}, {**world, "num_frames": 9}]
    monkeypatch.setattr("muybridge.data.packs.VALIDATION_SHARE", 0.0)
    mixed = make_source({"source": "mix", "of": parts})
    shapes = [mixed.clip(i).frames.shape[:3] for i in range(len(mixed))]
    assert mixed.shapes == shapes and len(set(shapes)) == 5
    sizes = {shapes[int(b[0])]: len(b) for b in buckets_of(mixed)}
    assert sizes[(1, 16, 24)] == 10 and sizes[(9, 16, 24)] == 5
    first = FirstClips(mixed, 5)  # one of each
    assert len(set(first.shapes)) == 5
    maker = BatchMaker(mixed, None, 0, 2, seed=1)
    seen = [maker.index_of(step, place) for step in range(maker.epoch // 2) for place in range(2)]
    assert set(seen) == set(range(len(mixed)))
    pictures = [i for i in seen if shapes[i] == (1, 16, 24)]
    assert sorted(pictures) == sorted([*set(pictures), *set(pictures)])


def test_t20_of_several_sizes_a_clip_goes_to_one_that_hardly_enlarges_it():
    """No bucket of more than 1 / .8 of its pixels where there is a smaller one, never a longer one; by its shape
    alone."""
    config = FolderConfig(".", buckets=((4, 16, 16), (8, 16, 16), (8, 32, 32), (16, 32, 32), (8, 16, 32), (8, 32, 64)))
    wanted = {
        (48, 48, 20): (16, 32, 32), (48, 48, 9): (8, 32, 32), (30, 30, 9): (8, 32, 32), (28, 28, 9): (8, 16, 16),
        (28, 28, 5): (4, 16, 16), (64, 32, 9): (8, 32, 64), (40, 20, 9): (8, 16, 32), (8, 8, 9): (8, 16, 16),
    }  # fmt: skip
    for (width, height, frames), bucket in wanted.items():
        found = _bucket(SimpleNamespace(width=width, height=height), frames, config)
        assert (found.num_frames, found.height, found.width) == bucket
        assert found.num_frames <= frames
        if (width, height) != (8, 8):  # smaller than the smallest
            assert found.height * found.width <= width * height / LEAST_PIXELS
