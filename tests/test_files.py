"""Nothing that a user has is ever deleted or written over; what we write is whole or not there."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from muybridge.curation.records import CLIP_ID_DIGITS
from muybridge.errors import UserError
from muybridge.files import RECORD, check_replaceable, whole_file, whole_folder


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
    with pytest.raises(RuntimeError), whole_folder(target, "a thing") as unfinished:
        (unfinished / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with whole_folder(target, "a thing") as unfinished:
            (unfinished / "a").write_text(text)
        assert ours(target) == {"a": text.encode()} and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["b", "sub/a", "a", ".git/config"])
def test_a_folder_with_anything_else_is_refused_at_any_depth(tmp_path, name):
    target = tmp_path / "made"
    make(target, "a")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text("mine")
    before = tree(target)
    with pytest.raises(UserError, match=f"{name}.*nothing was changed"), whole_folder(target, "a thing"):
        pytest.fail("the block must not run")
    assert tree(target) == before


def make(target: Path, text: str, what: str = "a thing", origin: str = "") -> None:
    with whole_folder(target, what, origin) as unfinished:
        (unfinished / "a").write_text(text)


def ours(target: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(target).items() if name != RECORD}


@pytest.mark.parametrize("other", [{"what": "another thing"}, {"origin": "elsewhere"}])
def test_a_folder_of_ours_is_not_replaced_by_something_else_of_ours(tmp_path, other):
    make(tmp_path / "made", "one", origin="here")
    with pytest.raises(UserError, match="nothing was changed"):
        make(tmp_path / "made", "two", **{"origin": "here", **other})
    assert ours(tmp_path / "made") == {"a": b"one"}


def test_what_a_user_adds_stays_and_what_they_change_is_not_lost(tmp_path):
    target = tmp_path / "made"
    make(target, "one")
    (target / "cards").mkdir()
    (target / "cards" / "README.md").write_text("mine")
    with whole_folder(target, "a thing", keep=True) as unfinished:
        (unfinished / "a").write_text("two")
    assert ours(target) == {"a": b"two", "cards/README.md": b"mine"}
    (target / "a").write_text("own")
    with pytest.raises(UserError, match="changed since"), whole_folder(target, "a thing", keep=True) as unfinished:
        (unfinished / "a").write_text("three")
    assert ours(target) == {"a": b"own", "cards/README.md": b"mine"} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_never_gone_while_it_is_replaced(tmp_path):
    """Whoever is killed at any moment leaves the old folder or the new one."""
    target = tmp_path / "made"
    make(target, "0")
    missed, done = [], threading.Event()

    def watch():
        while not done.is_set():
            missed.extend([1] if not (target / "a").exists() else [])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(100):
        make(target, str(i))
    done.set()
    watcher.join()
    assert not missed


def test_files_that_come_while_we_write_are_kept(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(UserError, match="late"), whole_folder(target, "a thing") as unfinished:
        (unfinished / "a").write_text("new")
        target.mkdir()
        (target / "late").write_text("mine")
    assert tree(target) == {"late": b"mine"}


def test_links_count_as_files_and_are_not_followed(tmp_path, precious):
    target = tmp_path / "made"
    make(target, "a")
    (target / "b").symlink_to(precious)
    before = tree(precious)
    with pytest.raises(UserError, match="'b'"):
        check_replaceable(target, "a thing")
    with whole_folder(target, "a thing", keep=True) as unfinished:
        (unfinished / "a").write_text("new")
    assert (target / "b").is_symlink() and tree(precious) == before


def test_a_change_at_the_end_of_a_large_file_is_seen_and_empty_folders_stay(tmp_path):
    with whole_folder(tmp_path / "made", "a thing") as unfinished:
        (unfinished / "a").write_bytes(bytes(3 * 2**20))
    (tmp_path / "made" / "own").mkdir()
    with whole_folder(tmp_path / "made", "a thing", keep=True) as unfinished:
        (unfinished / "a").write_bytes(bytes(3 * 2**20))
    assert (tmp_path / "made" / "own").is_dir()
    with open(tmp_path / "made" / "a", "r+b") as file:
        file.seek(2 * 2**20)
        file.write(b"mine")
    with pytest.raises(UserError, match="'a'"):
        make(tmp_path / "made", "new")


@pytest.mark.parametrize("keep", [False, True])
def test_an_empty_folder_is_taken(tmp_path, keep):
    (tmp_path / "made").mkdir()
    with whole_folder(tmp_path / "made", "a thing", keep=keep) as unfinished:
        (unfinished / "a").write_text("new")
    assert ours(tmp_path / "made") == {"a": b"new"} and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_comes_at_the_last_moment_is_put_back(tmp_path, monkeypatch):
    import muybridge.files as files

    make(tmp_path / "made", "one")
    exchange = files._exchange

    def late(one, other):
        (tmp_path / "made" / "late").write_text("mine") if not (tmp_path / "made" / "late").exists() else None
        return exchange(one, other)

    monkeypatch.setattr(files, "_exchange", late)
    with pytest.raises(UserError, match="'late'"):
        make(tmp_path / "made", "two")
    assert ours(tmp_path / "made") == {"a": b"one", "late": b"mine"} and len(list(tmp_path.iterdir())) == 1


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make(tmp_path / "link", "one")
    make(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink() and ours(tmp_path / "real") == {"a": b"two"}
    assert len(list(tmp_path.iterdir())) == 2


def test_the_first_of_two_equal_writers_stays(tmp_path):
    target = tmp_path / "made"
    with whole_folder(target, "a thing", same=lambda f: (f / "a").read_text() == "same") as late:
        make(target, "same")
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


@pytest.fixture
def trained(tmp_path, tiny_recipe):
    """The folder of a short run."""
    from muybridge.training.trainer import Trainer

    Trainer(tiny_recipe, tmp_path / "run", cache=tmp_path / "cache").run()
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.parametrize("index", ["model_index.json", "config.json", "photo.jpg"])
def test_no_export_takes_the_place_of_a_users_model_or_folder(tmp_path, trained, index):
    theirs = tmp_path / "theirs"
    (theirs / "unet").mkdir(parents=True)
    (theirs / index).write_text('{"_class_name": "StableDiffusionPipeline"}')
    (theirs / "unet" / "diffusion_pytorch_model.safetensors").write_text("months of work")
    before = tree(theirs)
    for arguments in (("export", trained, theirs), ("models", "export", "emoji-image", theirs)):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert tree(theirs) == before


def test_a_run_is_exported_again_and_a_card_stays(tmp_path, trained):
    target = tmp_path / "exported"
    assert run("export", trained, target).exit_code == 0
    (target / "README.md").write_text("a card")
    before = tree(target)
    assert run("export", trained, target).exit_code == 0
    assert tree(target) == before
    (target / "model_index.json").write_text("{}")
    done = run("export", trained, target)
    assert done.exit_code == 2 and "changed since" in done.output, done.output
    assert (target / "model_index.json").read_text() == "{}" and (target / "README.md").read_text() == "a card"


def test_a_run_is_not_exported_over_the_model_of_another(tmp_path, trained, tiny_recipe):
    from dataclasses import replace

    from muybridge.training.trainer import Trainer

    assert run("export", trained, tmp_path / "exported").exit_code == 0
    before = tree(tmp_path / "exported")
    Trainer(replace(tiny_recipe, seed=7), tmp_path / "other", cache=tmp_path / "cache").run()
    done = run("export", tmp_path / "other", tmp_path / "exported")
    assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
    assert tree(tmp_path / "exported") == before


def test_a_model_that_was_edited_in_its_run_is_told_before_training(tmp_path, trained, tiny_recipe):
    from muybridge.training.trainer import Trainer

    (trained / "model" / RECORD).unlink()
    with pytest.raises(UserError, match="nothing was changed"):
        Trainer(tiny_recipe, trained, cache=tmp_path / "cache").run()


def test_a_users_recipe_without_a_run_is_not_written_over(tmp_path, tiny_recipe):
    from dataclasses import replace

    from muybridge.training.run_folder import claim
    from muybridge.training.trainer import Trainer

    trainer = Trainer(replace(tiny_recipe, seed=7), tmp_path / "run")
    claim(trainer.folder, trainer.recipe)
    before = tree(trainer.folder)
    with pytest.raises(UserError, match="another recipe.*seed.*remove"):
        Trainer(tiny_recipe, tmp_path / "run").run()
    assert tree(trainer.folder) == before


def test_nothing_is_cached_in_a_folder_that_is_refused(tmp_path, precious, tiny_recipe):
    from muybridge.training.trainer import Trainer

    with pytest.raises(UserError, match="nothing was changed"):
        Trainer(tiny_recipe, precious).run()
    assert not (precious / "cache").exists()


@pytest.mark.parametrize("name", ["stages/notes.parquet", ".git/config", "manifest.parquet", "stages/.x.tmp"])
def test_curation_starts_in_a_folder_of_its_own(tmp_path, captioned, name):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for verb in ("run", "tune"):
        done = run("curate", verb, captioned, "-o", tmp_path / "mine")
        assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
        assert tree(tmp_path / "mine") == {name: b"mine"}


@pytest.mark.parametrize("name", [".git/config", "stages/.x.tmp", "stages/survey-1/ab/mine.txt", "shards/own.tar"])
def test_a_curation_goes_on_only_where_all_files_are_its_own(tmp_path, captioned, name):
    output = tmp_path / "out"
    assert run("curate", "tune", captioned, "-o", output).exit_code == 0
    assert run("curate", "run", captioned, "-o", output).exit_code == 0
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    (output / name).write_text("mine")
    before = tree(output)
    assert run("curate", "run", captioned, "-o", output).exit_code == 2
    assert tree(output) == before


def test_curation_deletes_no_footage_and_no_curation_of_other_footage(tmp_path, captioned):
    output, other = tmp_path / "out", tmp_path / "other"
    assert run("curate", "run", captioned, "-o", output).exit_code == 0
    shutil.copytree(captioned, other)
    before = tree(output)
    done = run("curate", "run", other, "-o", output)
    assert done.exit_code == 2 and "holds the curation of" in done.output, done.output
    (output / "clips" / "aa").mkdir(parents=True)
    shutil.copy(captioned / "a.gif", output / "clips" / "aa" / f"{'a' * CLIP_ID_DIGITS}.mp4")
    done = run("curate", "run", output / "clips", "-o", output)
    assert done.exit_code == 2 and "lies inside the output" in done.output, done.output
    assert set(tree(output)) == {*before, f"clips/aa/{'a' * CLIP_ID_DIGITS}.mp4"}


def test_a_run_does_not_start_around_a_users_cache(tmp_path, tiny_recipe):
    from muybridge.training.trainer import Trainer

    (tmp_path / "mine" / "cache").mkdir(parents=True)
    (tmp_path / "mine" / "cache" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="nothing was changed"):
        Trainer(tiny_recipe, tmp_path / "mine").run()
    assert tree(tmp_path / "mine") == {"cache/thesis.txt": b"mine"}


def test_a_store_with_a_licence_of_the_users_is_kept(tmp_path, captioned):
    store = tmp_path / "store"
    assert run("data", "build", captioned, "--store", store, "--short", "hold").exit_code == 0
    (store / "licences" / "contract.txt").write_text("mine")
    done = run("data", "build", captioned, "--store", store, "--short", "hold", "--size", 8)
    assert done.exit_code == 2 and "contract.txt" in done.output, done.output
    assert (store / "licences" / "contract.txt").read_text() == "mine"


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
    assert done.exit_code == 2 and "itself, which is read" in done.output, done.output
    assert tree(captioned) == before
    (tmp_path / "folder.mp4").mkdir()
    done = run("generate", "a cat", "-o", tmp_path / "folder.mp4")
    assert done.exit_code == 2 and "is a folder" in done.output, done.output


def test_a_store_of_another_folder_is_kept(tmp_path, captioned):
    store, other = tmp_path / "store", tmp_path / "other"
    assert run("data", "build", captioned, "--store", store, "--short", "hold").exit_code == 0
    before = tree(store)
    shutil.copytree(captioned, other)
    recipe = recipe_file(tmp_path, other, store)
    for arguments in (("data", "show", recipe), ("data", "build", other, "--store", store, "--short", "hold")):
        done = run(*arguments)
        assert done.exit_code == 2 and "nothing was changed" in done.output, done.output
    assert tree(store) == before
