"""Each visitor has a folder of their own, and no name or path leads out of it or of the allowed folders."""

import os

import pytest

from muybridge.errors import UserError
from muybridge.studio.visits import Studio, new_token


@pytest.fixture
def studio(tmp_path):
    (tmp_path / "allowed").mkdir()
    return Studio(tmp_path / "studio", (tmp_path / "allowed",))


@pytest.fixture
def visitor(studio):
    return studio.visitor(new_token())


def test_a_token_is_one_visitor_and_its_folder_does_not_tell_it(studio):
    one, other = new_token(), new_token()
    assert studio.visitor(one) is studio.visitor(one)
    assert studio.visitor(one).folder != studio.visitor(other).folder
    assert one not in str(studio.visitor(one).folder)
    again = Studio(studio.folder, studio.allowed)
    assert again.visitor(one).folder == studio.visitor(one).folder


@pytest.mark.parametrize("token", ["", "x", "../" * 11, "a" * 33])
def test_what_is_no_token_is_nobody(studio, token):
    with pytest.raises(UserError, match="cookie"):
        studio.visitor(token)


@pytest.mark.parametrize(
    "name", ["../x.mp4", "/etc/passwd", ".x.mp4", "x.command", "", "a/b.mp4", "link.mp4", "x\0.mp4"]
)
def test_only_results_of_ones_own_are_served(visitor, tmp_path, name):
    (visitor.folder.parent / "x.mp4").write_bytes(b"")
    (visitor.folder / ".x.mp4").write_bytes(b"")
    (visitor.folder / "x.command").write_bytes(b"")
    (visitor.folder / "link.mp4").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="no file"):
        visitor.own(name)
    (visitor.folder / "x.mp4").write_bytes(b"")
    assert visitor.own("x.mp4").is_file()


@pytest.mark.parametrize("name", ["..", "a/b", "/x", "", "A", "-x", "x" * 50, "a.b", "x\n"])
def test_a_run_is_named_plainly(visitor, name):
    with pytest.raises(UserError, match="a name is"):
        visitor.new_folder("runs", name)
    assert visitor.new_folder("runs", "my-run-2").parent == visitor.folder / "runs"


def test_paths_within_the_allowed_folders_only(visitor, tmp_path):
    inside, outside = tmp_path / "allowed" / "clips", tmp_path / "other"
    inside.mkdir(), outside.mkdir()
    (inside / "link").symlink_to(outside)
    assert visitor.check_path(str(inside), "clips") == inside
    assert visitor.check_path(str(visitor.folder / "models"), "model")
    for path in (outside, inside / ".." / ".." / "other", inside / "link", "/", "~"):
        with pytest.raises(UserError, match="outside the folders"):
            visitor.check_path(str(path), "clips")


def test_arguments_that_are_files_elsewhere_are_refused(visitor, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"")
    visitor.check_named(
        ["emoji-video", "a dog, fluent style", "cat/dog", "motion=0.5", "x" * 5000, "a\0b", "~nobody/x"]
    )
    for text in (str(other), f"{other}:0.5", f"x={other}", os.path.relpath(other)):
        with pytest.raises(UserError, match="outside the folders"):
            visitor.check_named([text])


def test_uploads_are_kept_under_harmless_names(visitor, tmp_path):
    source = tmp_path / "<img src=x onerror=alert(1)>; rm -rf.png"
    source.write_bytes(b"picture")
    kept = visitor.taken(str(source))
    assert kept.parent == visitor.folder / "sources" and kept.read_bytes() == b"picture"
    assert not set(kept.name) & set("<>;=() ")
    assert visitor.taken(str(source)) == kept
