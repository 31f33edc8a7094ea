"""Composites: exact depth, near things in front, the same clip for the same number; and single videos as data."""

import numpy as np
import pytest

from muybridge.data.composites import CompositesConfig, CompositesSource
from muybridge.data.one_video import OneVideoConfig, OneVideoSource
from muybridge.data.packs import PackedClip, build_pack
from muybridge.data.video_io import write_video
from muybridge.errors import UserError
from muybridge.files import sha256_of


@pytest.fixture
def source(tmp_path):
    """Cut-outs: discs of plain colours."""
    y, x = np.mgrid[0:64, 0:64]
    disc = ((x - 31.5) ** 2 + (y - 31.5) ** 2 < 28**2).astype(np.uint8) * 255
    clips = []
    for i in range(40):
        pixels = np.zeros((1, 64, 64, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = (10 + i, 250 - i, 100), disc
        clips.append((PackedClip(f"disc {i}", f"disc {i}", (1, 64, 64, 4), 8.0, "test", "noto"), pixels))
    build_pack(tmp_path / "store", clips, [], {}, {})
    return CompositesSource(CompositesConfig(num_clips=60, store=str(tmp_path / "store")))


def test_a_clip_is_its_number_and_holds_picture_and_depth(source):
    clip = source.clip(7)
    assert clip.frames.shape == (2, 64, 64, 3) and np.array_equal(source.clip(7).frames, clip.frames)
    assert not np.array_equal(source.clip(8).frames, clip.frames)
    depth = clip.frames[1]
    assert np.array_equal(depth[..., 0], depth[..., 1]) and len(source.captions()) == 60


def test_nearer_cut_outs_hide_farther_ones_and_their_colour_is_seen(source):
    """Where a cut-out's colour shows, the depth is constant or the ground's; near ones lie lower and over others."""
    landscapes = [c for c in (source.clip(i).frames for i in range(60)) if len(np.unique(c[1])) > 8]
    assert 10 < len(landscapes) < 55
    for frames in landscapes[:10]:
        ground = frames[1, :, :, 0].astype(int)
        assert ground[0].max() <= ground[-1].max()  # the ground is nearest at the bottom


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(UserError, match="a composite has 2"):
        CompositesConfig(num_frames=3)


def test_one_video_takes_the_frames_it_is_asked_for(tmp_path):
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    path = write_video(frames, tmp_path / "v.npy", 8.0, {})
    source = OneVideoSource(OneVideoConfig(str(path), "a", 8, 8, num_frames=3, first=1, stride=2))
    clip = source.clip(0)
    assert clip.frames[:, 0, 0, 0].tolist() == [1, 3, 5] and len(source) == 1 and source.captions() == ["a"]
    with pytest.raises(UserError, match="none after"):
        OneVideoSource(OneVideoConfig(str(path), "a", first=10))
    with pytest.raises(UserError, match="caption"):
        OneVideoConfig(str(path), " ")
    with pytest.raises(UserError, match="stride"):
        OneVideoConfig(str(path), "a", stride=0)


def test_another_video_under_the_same_name_is_refused(tmp_path):
    path = write_video(np.zeros((3, 8, 8, 3), np.uint8), tmp_path / "v.npy", 8.0, {})
    config = OneVideoConfig(str(path), "a", 8, 8, sha256=sha256_of(path))
    assert len(OneVideoSource(config)) == 1
    write_video(np.ones((3, 8, 8, 3), np.uint8), path, 8.0, {})
    with pytest.raises(UserError, match="no longer the video"):
        OneVideoSource(config)
