"""Stores, a user's folder, and the emoji data's rules; every dropped clip has its line."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from muybridge.data.emoji import EmojiConfig, EmojiSource, build_emoji, group_of
from muybridge.data.folder import FolderConfig, FolderSource, build_folder
from muybridge.data.packs import PackedClip, PackedSource, build_pack, report_lines, split_of
from muybridge.data.registry import make_source
from muybridge.data.video_io import write_video
from muybridge.data.world import WorldConfig, WorldSource
from muybridge.errors import UserError
from muybridge.nn.frames import fit_frames


def clip_frames(index=0, frames=10, size=(20, 30)):
    return (
        WorldSource(WorldConfig(height=size[0], width=size[1], num_frames=frames, num_clips=index + 1))
        .clip(index)
        .frames
    )


# --- stores ---------------------------------------------------------------------------------------------------------


def test_store_round_trip_alpha_and_loops(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (8, 6, 6, 4), dtype=np.uint8)
    frames[..., 3] = 0
    frames[2, ..., 3] = 255
    entry = PackedClip("a fox", "fox", frames.shape, 8.0, "here", "flat")
    build_pack(
        tmp_path / "s", [(entry, frames)], [{"file": "x", "action": "dropped", "reason": "y"}], {"l.txt": "MIT"}, {}
    )
    source = PackedSource(tmp_path / "s", "all", 4, (10, 20, 30), with_style=True)
    clip = source.clip(0)
    assert clip.caption == "a fox, flat style" and clip.fps == 4.0
    assert (clip.frames[0] == [10, 20, 30]).all() and np.array_equal(clip.frames[1], frames[2, ..., :3])
    assert (tmp_path / "s" / "licences" / "l.txt").read_text() == "MIT"
    assert next(iter(report_lines(tmp_path / "s")))["reason"] == "y"
    assert np.array_equal(source.still(0, 1).frames[0], clip.frames[1])


def test_a_failed_build_leaves_the_old_store(tmp_path):
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    entry = PackedClip("a", "a", frames.shape, 8.0, "o")
    build_pack(tmp_path / "s", [(entry, frames)], [], {}, {})

    def broken():
        yield entry, frames
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        build_pack(tmp_path / "s", broken(), [], {}, {})
    assert len(PackedSource(tmp_path / "s", "all", 1)) == 1


def test_groups_never_straddle_the_split():
    groups = [f"thing {i}" for i in range(4000)]
    share = np.mean([split_of(g) == "validation" for g in groups])
    assert 0.04 < share < 0.06
    assert group_of("woman rowing boat: medium-dark skin tone") == group_of("man rowing boat") == "person rowing boat"
    assert group_of("fox") != group_of("cat")


def test_fit_covers_and_crops():
    frames = np.zeros((1, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = 200
    assert fit_frames(frames, 20, 20).shape == (1, 20, 20, 3) and fit_frames(frames, 20, 20).min() == 200
    assert fit_frames(frames, 64, 32).shape == (1, 64, 32, 3)


# --- folder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def user_folder(tmp_path):
    root = tmp_path / "clips"
    for i in range(30):
        write_video(clip_frames(i), root / "videos" / f"c{i}.mp4", 8)
        (root / "videos" / f"c{i}.txt").write_text(f"caption number {i}")
    write_video(clip_frames(0, 3), root / "short.gif", 8)
    (root / "short.txt").write_text("a short one")
    write_video(clip_frames(1), root / "silent.mp4", 8)
    (root / "broken.mp4").write_bytes(b"nothing")
    (root / "broken.txt").write_text("a broken one")
    (root / "notes.pdf").write_bytes(b"%PDF")
    frames = root / "frames" / "run"
    frames.mkdir(parents=True)
    for i, frame in enumerate(clip_frames(2)):
        Image.fromarray(frame).save(frames / f"{i:03d}.png")
    (root / "captions.jsonl").write_text(
        json.dumps({"file": "frames/run", "caption": "from pictures"})
        + "\nnot json\n"
        + json.dumps({"file": "gone.mp4", "caption": "x"})
    )
    return root


def test_every_file_is_used_or_reported(user_folder, tmp_path):
    config = FolderConfig(str(user_folder), 16, 16, 4, store=str(tmp_path / "store"))
    store = build_folder(config)
    report = {(line["file"], line["action"]): line["reason"] for line in report_lines(store)}
    assert "no caption" in report["silent.mp4", "dropped"]
    assert "not a readable video" in report["broken.mp4", "dropped"]
    assert "3 frames at 8 fps, fewer than 4" in report["short.gif", "dropped"]
    assert "neither video" in report["notes.pdf", "dropped"]
    assert "no such clip" in report["gone.mp4", "dropped"]
    assert ("captions.jsonl:2", "dropped") in report
    assert "last 2 frames" in report["videos/c0.mp4", "trimmed"]
    source = PackedSource(store, "all", 4, loops=False)
    captions = source.captions()
    assert captions.count("caption number 3") == 2 and "from pictures" in captions
    assert source.clip(0).frames.shape == (4, 16, 16, 3)
    assert len(FolderSource(config)) + len(
        FolderSource(FolderConfig(**{**config.__dict__, "split": "validation"}))
    ) == len(source)


def test_a_folder_is_decoded_once_and_again_when_it_changes(user_folder, tmp_path):
    config = FolderConfig(str(user_folder), 16, 16, 4, store=str(tmp_path / "store"))
    index = build_folder(config) / "index.json"
    first = index.stat().st_mtime_ns
    assert build_folder(config) and index.stat().st_mtime_ns == first
    (user_folder / "silent.txt").write_text("not silent now")
    build_folder(config)
    assert index.stat().st_mtime_ns != first
    assert "not silent now" in PackedSource(tmp_path / "store", "all", 4).captions()


def test_short_clips_can_be_held(user_folder, tmp_path):
    config = FolderConfig(str(user_folder), 16, 16, 4, short="hold", store=str(tmp_path / "store"))
    source = PackedSource(build_folder(config), "all", 4, loops=False)
    clip = source.clip(source.captions().index("a short one")).frames
    assert np.array_equal(clip[2], clip[3])


def test_folder_errors(tmp_path):
    with pytest.raises(UserError, match="no folder at"):
        FolderSource(FolderConfig(str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no clip"):
        FolderSource(FolderConfig(str(tmp_path / "empty"), store=str(tmp_path / "s")))
    with pytest.raises(UserError, match="data.short"):
        FolderConfig("x", short="cut")
    with pytest.raises(UserError, match="did you mean 'folder'"):
        make_source({"source": "folders"})
    with pytest.raises(UserError, match="did you mean 'num_frames'"):
        make_source({"source": "folder", "path": "x", "num_frame": 3})


# --- emoji: the rules, on packages of the real layout made here ------------------------------------------------------


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def webp(frames):
    pictures = [Image.new("RGBA", (32, 32), (10 * i, 0, 0, 255)) for i in range(frames)]
    out = io.BytesIO()
    if frames == 1:
        pictures[0].save(out, "WEBP", lossless=True)
    else:
        pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    return out.getvalue()


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "npm"
    folder.mkdir()
    names = [
        {"hexcode": "1F98A", "label": "fox", "group": 3},
        {"hexcode": "1F6A3-200D-2640-FE0F", "label": "woman rowing boat", "group": 1,
         "skins": [{"hexcode": "1F6A3-1F3FF-200D-2640-FE0F", "label": "woman rowing boat: dark skin tone"}]},
        {"hexcode": "1F1E6-1F1E8", "label": "flag: Ascension Island", "group": 9},
    ]  # fmt: skip
    archive(folder / "emojibase-data-17.0.0.tgz", {"en/data.json": json.dumps(names).encode()})
    first = {
        "assets/1f98a.webp": webp(20),
        "assets/1f6a3-200d-2640-fe0f.webp": webp(17),
        "assets/1f6a3-1f3ff-200d-2640-fe0f.webp": webp(17),
        "assets/1f1e6-1f1e8.webp": webp(20),
        "assets/0023.webp": webp(20),
    }
    for i in (1, 2, 3, 4):
        archive(
            folder / f"lobehub-fluent-emoji-anim-{i}-1.0.0.tgz", first if i == 1 else {"assets/1f98a.webp": webp(1)}
        )
    return folder


def test_emoji_animations(packages, tmp_path):
    store = build_emoji("animations", tmp_path / "store", packages, size=16, frames=16)
    source = PackedSource(store, "all", 16)
    assert sorted(source.captions()) == ["fox", "woman rowing boat"]
    clip = source.clip(source.captions().index("fox"))
    reds = clip.frames[:, 8, 8, 0].tolist()
    assert reds == [10 * int(i) for i in np.linspace(0, 20, 16, endpoint=False)]  # a loop: the end is not repeated
    reasons = {line["reason"] for line in report_lines(store)}
    assert reasons == {"a skin-tone variant", "a flag", "no caption in emojibase", "not animated"}
    assert "Microsoft" in (store / "licences" / "fluent.txt").read_text()
    split = [e.caption for s in ("train", "validation") for e in _entries(store, s)]
    assert sorted(split) == ["fox", "woman rowing boat"]


def _entries(store, split):
    try:
        return EmojiSource(EmojiConfig(store=str(store), split=split)).entries
    except UserError:
        return []


def test_emoji_errors(packages, tmp_path):
    with pytest.raises(UserError, match="did you mean 'animations'"):
        build_emoji("animation", tmp_path / "s", packages)
    (packages / "emojibase-data-17.0.0.tgz").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged"):
        build_emoji("animations", tmp_path / "s", packages)
    with pytest.raises(UserError, match="build it first"):
        EmojiSource(EmojiConfig(store=str(tmp_path / "nothing")))


# --- parts and mixtures ---------------------------------------------------------------------------------------------


def styled_store(folder, styles=("flat", "noto", "flat"), frames=4):
    def made():
        for i, style in enumerate(styles):
            clip = np.full((frames, 8, 8, 3), 10 * i, np.uint8) + np.arange(frames, dtype=np.uint8)[:, None, None, None]
            yield PackedClip(f"thing {i}", f"thing {i}", clip.shape, 8.0, "here", style), clip

    build_pack(folder, made(), [], {}, {})
    return folder


def test_styles_and_single_frames(tmp_path):
    store = styled_store(tmp_path / "s")
    flat = PackedSource(store, "all", 4, styles=("flat",))
    assert flat.captions() == ["thing 0", "thing 2"]
    each = PackedSource(store, "all", 1, each_frame=True)
    assert len(each) == 12 and len(each.captions()) == 12
    assert [int(each.clip(i).frames[0, 0, 0, 0]) for i in (0, 3, 4, 11)] == [0, 3, 10, 23]
    assert each.clip(5).frames.shape == (1, 8, 8, 3) and each.clip(5).caption == "thing 1"
    with pytest.raises(UserError, match="each_frame"):
        PackedSource(store, "all", 4, each_frame=True)
    with pytest.raises(UserError, match="twemoji"):
        EmojiConfig(styles=("twemojy",))


def test_mixtures():
    world = {"source": "world", "height": 16, "width": 16, "num_frames": 2}
    mixed = make_source({"source": "mix", "of": [{**world, "num_clips": 3}, {**world, "num_clips": 5, "seed": 9}]})
    alone = make_source({**world, "num_clips": 5, "seed": 9})
    assert len(mixed) == 8 and mixed.captions()[3:] == alone.captions()
    assert np.array_equal(mixed.clip(3).frames, alone.clip(0).frames)
    assert np.array_equal(mixed.still(7, 1).frames, alone.still(4, 1).frames)
    assert mixed.shapes == []  # one size: no buckets
    for wrong in ({"source": "mix"}, {"source": "mix", "of": []}, {"source": "mix", "of": [world], "seed": 3}):
        with pytest.raises(UserError, match="of"):
            make_source(wrong)


def test_loops_start_anywhere_in_training_and_at_their_start_in_validation(tmp_path):
    from muybridge.training.batches import BatchMaker

    source = PackedSource(styled_store(tmp_path / "s", ("a",) * 8), "all", 4, loops=True)
    maker = BatchMaker(source, None, 0, 8, seed=1)
    first = {float(v) for v in (maker(0, range(8)).video[:, 0, 0, 0, 0] + 1) * 127.5 % 10}
    assert len({round(v) for v in first}) > 1
    again = BatchMaker(source, None, 0, 8, seed=1)(0, range(8))
    assert np.array_equal(again.video, maker(0, range(8)).video)
    steps = (maker(3, range(8)).video[:, 0, :, 0, 0].diff(dim=1) * 127.5).round()
    assert set(steps.unique().tolist()) == {1.0, -3.0}  # in order, and once around
    validation = BatchMaker(source, None, 0, 8, 1, "validation")
    starts = ((validation(0, range(8)).video[:, 0, 0, 0, 0] + 1) * 127.5).round() % 10
    assert starts.unique().tolist() == [0.0]


def test_a_mix_shows_parts_as_often_as_it_says():
    from collections import Counter

    from muybridge.training.batches import BatchMaker

    world = {"source": "world", "height": 16, "width": 16, "num_frames": 2}
    parts = [{**world, "num_clips": 3, "times": 4}, {**world, "num_clips": 8, "seed": 9}]
    mixed = make_source({"source": "mix", "of": parts})
    maker = BatchMaker(mixed, None, 0, 5, seed=1)
    drawn = [maker.index_of(step, place) for step in range(4) for place in range(5)]
    assert Counter(drawn) == {**dict.fromkeys(range(3), 4), **dict.fromkeys(range(3, 11), 1)}
    for wrong in (0, 1.5):
        with pytest.raises(UserError, match="times"):
            make_source({"source": "mix", "of": [{**world, "num_clips": 3, "times": wrong}]})


def test_a_damaged_npm_archive_is_told(tmp_path):
    import io
    import tarfile

    from muybridge.data.npm import read_member, read_members

    path = tmp_path / "p.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, size in (("package/a.png", 100_000), ("package/b.png", 100_000)):
            entry = tarfile.TarInfo(name)
            entry.size = size
            tar.addfile(entry, io.BytesIO(np.random.default_rng(0).bytes(size)))
    assert [name for name, _ in read_members(path, ".png")] == ["a", "b"] and len(read_member(path, "package/a.png"))
    with pytest.raises(UserError, match="not the expected package"):
        read_member(path, "package/c.png")
    path.write_bytes(path.read_bytes()[:120_000])
    with pytest.raises(UserError, match="damaged"):
        list(read_members(path, ".png"))
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="damaged"):
        list(read_members(path, ".png"))
