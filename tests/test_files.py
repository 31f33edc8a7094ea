"""Nothing that a user has is ever deleted or written over; what we write is whole or not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from muybridge.errors import UserError
from muybridge.files import check_replaceable, whole_file, whole_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def precious(tmp_path):
    """A user's folder, with files whose names we use as well."""
    folder = tmp_path / "precious"
    for name in ("thesis.txt", "clips.bin", "clips/mine/holiday.mp4", "shards/own.tar", "log.jsonl", "network/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"ten years of {name}")
    return folder


@pytest.fixture
def captioned(tmp_path):
    from muybridge.data.video_io import write_video

    folder = tmp_path / "captioned"
    folder.mkdir()
    write_video(np.zeros((8, 16, 16, 3), np.uint8), folder / "a.gif")
    (folder / "a.txt").write_text("a black square")
    return folder


def test_a_folder_is_whole_or_not_there(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(RuntimeError), whole_folder(target, ("a",), "a thing") as unfinished:
        (unfinished / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with whole_folder(target, ("a",), "a thing") as unfinished:
            (unfinished / "a").write_text(text)
        assert tree(target) == {"a": text.encode()} and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["b", "sub/a", "licences2/x"])
def test_a_folder_with_anything_else_is_refused_at_any_depth(tmp_path, name):
    target = tmp_path / "made"
    (target / name).parent.mkdir(parents=True)
    (target / name).write_text("mine")
    (target / "a").mkdir()
    (target / "a" / "known").write_text("ours")
    with pytest.raises(UserError, match=name), whole_folder(target, ("a", "licences/*"), "a thing"):
        pytest.fail("the block must not run")
    assert tree(target) == {"a/known": b"ours", name: b"mine"}


def test_files_that_come_while_we_write_are_kept(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(UserError, match="late"), whole_folder(target, ("a",), "a thing") as unfinished:
        (unfinished / "a").write_text("new")
        target.mkdir()
        (target / "late").write_text("mine")
    assert tree(target) == {"late": b"mine"}


def test_links_count_as_files_and_are_not_followed(tmp_path, precious):
    target = tmp_path / "made"
    target.mkdir()
    (target / "a").symlink_to(precious)
    (target / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="'b'"):
        check_replaceable(target, ("a",), "a thing")
    (target / "b").unlink()
    before = tree(precious)
    with whole_folder(target, ("a",), "a thing") as unfinished:
        (unfinished / "a").write_text("new")
    assert tree(precious) == before


def test_the_first_of_two_equal_writers_stays(tmp_path):
    target = tmp_path / "made"
    with whole_folder(target, ("a",), "a thing", same=lambda f: (f / "a").read_text() == "same") as late:
        with whole_folder(target, ("a",), "a thing") as first:
            (first / "a").write_text("same")
        inode = target.stat().st_ino
        (late / "a").write_text("same")
    assert target.stat().st_ino == inode and list(tmp_path.iterdir()) == [target]


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"x.txt": b"old"}


# --- every option that takes a folder -------------------------------------------------------------------------------


def run(*arguments: str):
    from typer.testing import CliRunner

    from muybridge.cli.main import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def recipe_file(tmp_path, captioned, store):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: n\nsystem: vdm\nmodel: {type: unet3d}\ndata: {source: folder, "
        f"path: {captioned}, height: 16, width: 16, num_frames: 4, fps: 0, store: {store}}}\n"
    )
    return path


@pytest.mark.parametrize("verb", ["build", "build emoji", "show", "plan", "train"])
def test_no_store_takes_the_place_of_a_users_folder(tmp_path, precious, captioned, verb):
    before = tree(precious)
    recipe = recipe_file(tmp_path, captioned, precious)
    done = {
        "build": lambda: run("data", "build", captioned, "--store", precious, "--short", "hold"),
        "build emoji": lambda: run("data", "build", "emoji", "--store", precious, "--packages", tmp_path / "none"),
        "show": lambda: run("data", "show", recipe),
        "plan": lambda: run("plan", recipe),
        "train": lambda: run("train", recipe, "-o", tmp_path / "run"),
    }[verb]()
    assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
    assert tree(precious) == before and not list(tmp_path.glob(".precious*"))


def test_a_store_of_ours_is_built_anew(tmp_path, captioned):
    store = tmp_path / "store"
    for size in (16, 8):
        done = run("data", "build", captioned, "--store", store, "--short", "hold", "--size", size)
        assert done.exit_code == 0, done.output
        assert json.loads((store / "index.json").read_text())["clips"][0]["shape"][1] == size
    (store / "notes.txt").write_text("mine")
    assert run("data", "build", captioned, "--store", store, "--short", "hold").exit_code == 2
    assert (store / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("which", ["clips", "shards"])
def test_curation_keeps_a_users_clips_and_shards(tmp_path, precious, captioned, which):
    import shutil

    for name in ("clips.bin", "thesis.txt", "log.jsonl"):
        (precious / name).unlink()
    shutil.rmtree(precious / "network")
    shutil.rmtree(precious / {"clips": "shards", "shards": "clips"}[which])
    before = tree(precious)
    done = run("curate", "run", captioned, "-o", precious)
    assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
    assert tree(precious) == before


def test_curation_removes_only_clips_of_its_own_naming(tmp_path, captioned):
    output = tmp_path / "out"
    assert run("curate", "run", captioned, "-o", output).exit_code == 0
    (output / "clips").mkdir(exist_ok=True)
    (output / "clips" / "holiday.mp4").write_text("mine")
    assert run("curate", "run", captioned, "-o", output).exit_code == 2
    assert (output / "clips" / "holiday.mp4").read_text() == "mine"


def test_a_run_starts_in_a_folder_of_its_own(tmp_path, precious, tiny_recipe):
    from muybridge.training.trainer import Trainer

    before = tree(precious)
    with pytest.raises(UserError, match="nothing was changed"):
        Trainer(tiny_recipe, precious, cache=tmp_path / "cache").run()
    assert tree(precious) == before


def test_export_replaces_models_alone(tmp_path, precious):
    from muybridge.training.export import export_run

    run_folder = tmp_path / "run"
    (run_folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    (run_folder / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
    (run_folder / "recipe.json").write_text('{"name": "n", "system": "vdm", "model": {}, "data": {}}')
    before = tree(precious)
    with pytest.raises(UserError, match="nothing was changed"):
        export_run(run_folder, precious)
    assert tree(precious) == before
    assert run("models", "export", "emoji-image", precious).exit_code == 2
    assert tree(precious) == before


def test_a_store_is_kept_when_no_clip_comes_of_a_new_build(tmp_path, captioned):
    store = tmp_path / "store"
    assert run("data", "build", captioned, "--store", store, "--short", "hold").exit_code == 0
    before = tree(store)
    (captioned / "a.gif").write_text("no video any more")
    done = run("data", "build", captioned, "--store", store)
    assert done.exit_code == 2 and "no clip" in done.output, done.output
    assert tree(store) == before


def test_a_folder_with_another_recipe_json_is_not_a_runs(tmp_path, tiny_recipe):
    from muybridge.training.trainer import Trainer

    cook = tmp_path / "cook"
    (cook / "model").mkdir(parents=True)
    (cook / "recipe.json").write_text('{"cake": "3 eggs"}')
    (cook / "model" / "w.txt").write_text("mine")
    before = tree(cook)
    with pytest.raises(UserError, match="not the folder of a run"):
        Trainer(tiny_recipe, cook, cache=tmp_path / "cache").run()
    assert tree(cook) == before


def test_no_command_writes_over_what_it_reads_or_onto_a_folder(tmp_path, captioned):
    clip = captioned / "a.gif"
    before = tree(captioned)
    done = run("extend", clip, "--add-frames", 1, "-o", clip)
    assert done.exit_code == 2 and "is the video itself" in done.output, done.output
    assert tree(captioned) == before
    (tmp_path / "folder.mp4").mkdir()
    done = run("generate", "a cat", "-o", tmp_path / "folder.mp4")
    assert done.exit_code == 2 and "is a folder" in done.output, done.output


def test_a_store_of_another_folder_is_kept(tmp_path, captioned):
    import shutil

    store, other = tmp_path / "store", tmp_path / "other"
    assert run("data", "build", captioned, "--store", store, "--short", "hold").exit_code == 0
    before = tree(store)
    shutil.copytree(captioned, other)
    recipe = recipe_file(tmp_path, other, store)
    for arguments in (("data", "show", recipe), ("data", "build", other, "--store", store, "--short", "hold")):
        done = run(*arguments)
        assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
    assert tree(store) == before
