"""Captions as people bring them: every encoding, every usual table, and a line for whatever could not be used."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.captions import captions_under
from muybridge.data.folder import build_folder
from muybridge.data.packs import PackedSource, report_lines
from muybridge.data.sources.folder import FolderConfig
from muybridge.data.video_io import write_video
from muybridge.errors import UserError
from muybridge.texts import text_of

FRAMES = np.stack([np.full((16, 16, 3), value, np.uint8) for value in (0, 255)])


def build(folder, tmp_path):
    """({clip: caption}, {file: reason}) of a folder of clips."""
    store = build_folder(FolderConfig(str(folder), 16, 16, 2, fps=0, store=str(tmp_path / "store")))
    captions = {e.origin: e.caption for e in PackedSource(store, "all", 2).entries}
    return captions, {line["file"]: line["reason"] for line in report_lines(store)}


@pytest.fixture
def clips(tmp_path):
    """Five clips and the words of one of them."""
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    for name in ("a.gif", "b.gif", "c.gif", "more/d.gif", "own.gif"):
        write_video(FRAMES, folder / name, 8.0)
    (folder / "own.txt").write_text("its own words")
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_is_read_by_its_mark(encoding):
    assert text_of("a café, 日本\n".encode(encoding), "x.txt") == "a café, 日本\n"


@pytest.mark.parametrize(
    "data,words",
    [
        (b"a caf\xe9", "x.txt: byte 0xe9 at 5 is not UTF-8"),
        ("fox".encode("utf-16-le"), "zero bytes"),
        (b"\xff\xfea\x00b", "x.txt: byte 0x62 at 4 is not UTF-16"),
    ],
)
def test_a_text_in_another_encoding_is_named_with_its_byte(data, words):
    with pytest.raises(UserError, match=words):
        text_of(data, "x.txt")


def test_a_caption_that_cannot_be_read_costs_its_clip_alone(clips, tmp_path):
    for name, data in (("a", b"a caf\xe9"), ("b", "a red fox".encode("utf-16")), ("c", b"\xef\xbb\xbfa dog")):
        (clips / f"{name}.txt").write_bytes(data)
    (clips / "more" / "d.caption").write_text("a bird")
    captions, lines = build(clips, tmp_path)
    assert captions == {"b.gif": "a red fox", "c.gif": "a dog", "more/d.gif": "a bird", "own.gif": "its own words"}
    assert lines == {"a.gif": "its caption: a.txt: byte 0xe9 at 5 is not UTF-8; save the file as UTF-8"}


def _parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"video": ["a.gif", "b.gif"], "text": ["one", "two"], "x": [1, 2]}), path)


TABLES = {
    "captions.jsonl": b'\xef\xbb\xbf{"file": "a.gif", "caption": "one"}\n{"file": "b.gif", "caption": "two"}\n',
    "metadata.jsonl": b'{"file_name": "a.gif", "text": "one"}\n\n{"file_name": "b.gif", "text": "two"}\n',
    "metadata.csv": b'file_name,text\r\na.gif,one\r\n"b.gif","two"\r\n',
    "list.csv": "path;caption\na.gif;one\n./b.gif;two\n".encode("utf-16"),
    "list.tsv": b"video\tprompt\na.gif\tone\nb\ttwo\n",
    "data.json": b'[{"video_path": "a.gif", "caption": ["one", "uno"]}, {"video_path": "b.gif", "caption": "two"}]',
    "names.json": b'{"a.gif": "one", "b.gif": "two"}',
    "meta_cap.json": b'{"a.gif": {"caption": "one", "tags": "x"}, "b": {"caption": "two"}}',
    "webvid.csv": b"VideoID,Name,duration\na,one,3\nb,two,4\n",
    "separators.jsonl": b'{"file": "a.gif", "caption": "one"}\r\n{"file": "b.gif", "caption": "two"}',
    "data.parquet": _parquet,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_captions(clips, tmp_path, name):
    made = TABLES[name]
    made(clips / name) if callable(made) else (clips / name).write_bytes(made)
    captions, lines = build(clips, tmp_path)
    assert captions == {"a.gif": "one", "b.gif": "two", "own.gif": "its own words"}
    assert set(lines) == {"c.gif", "more/d.gif"} and all("no caption" in reason for reason in lines.values())


def test_other_separators_than_line_ends_are_part_of_a_caption(clips, tmp_path):
    words = "a fox\u2028runs\x85and\x0cjumps"
    (clips / "captions.jsonl").write_text(json.dumps({"file": "a.gif", "caption": words}, ensure_ascii=False))
    assert build(clips, tmp_path)[0]["a.gif"] == words


def test_absolute_names_and_a_relative_folder(clips, tmp_path, monkeypatch):
    (clips / "captions.jsonl").write_text(json.dumps({"file": str((clips / "a.gif").resolve()), "caption": "one"}))
    monkeypatch.chdir(clips.parent)
    assert build(Path("clips"), tmp_path)[0]["a.gif"] == "one"


def test_capitals_and_whole_names_of_captions_beside_clips(clips, tmp_path):
    (clips / "a.TXT").write_text("one")
    (clips / "b.gif.txt").write_text("two")
    captions, lines = build(clips, tmp_path)
    assert captions == {"a.gif": "one", "b.gif": "two", "own.gif": "its own words"}
    assert set(lines) == {"c.gif", "more/d.gif"}


def test_captions_in_a_folder_beside_that_of_the_clips(clips, tmp_path):
    """CogVideoX's layout."""
    for folder in ("set/videos/frames", "set/labels"):
        (clips / folder).mkdir(parents=True)
    for name in ("1.gif", "2.gif"):
        write_video(FRAMES, clips / "set" / "videos" / name, 8.0)
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(clips / "set" / "videos" / "frames" / f"{i}.png")
    for name in ("1", "frames", "3"):
        (clips / "set" / "labels" / f"{name}.txt").write_text(f"label {name}")
    captions, lines = build(clips, tmp_path)
    found = {name: words for name, words in captions.items() if name.startswith("set/")}
    assert found == {"set/videos/1.gif": "label 1", "set/videos/frames": "label frames"}
    assert "no caption" in lines["set/videos/2.gif"] and "beside no clip" in lines["set/labels/3.txt"]
    assert not {"set/labels/1.txt", "set/labels/frames.txt"} & set(lines)


def test_webvids_clips_in_the_folders_of_their_pages(clips, tmp_path):
    (clips / "webvid.csv").write_text("videoid,name,page_dir\nd,four,more\na,one,elsewhere\n")
    captions, _ = build(clips, tmp_path)
    assert captions == {"more/d.gif": "four", "a.gif": "one", "own.gif": "its own words"}


def test_lists_of_prompts_and_videos_belong_together_by_line(clips, tmp_path):
    (clips / "more" / "prompts.txt").write_text("a bird\na dog\n")
    (clips / "more" / "videos.txt").write_text("d.gif\nnone.gif\n")
    captions, lines = build(clips, tmp_path)
    assert captions == {"more/d.gif": "a bird", "own.gif": "its own words"}
    assert "no such clip" in lines["more/none.gif"] and "a.gif" in lines
    (clips / "more" / "videos.txt").write_text("d.gif\n")
    captions, lines = build(clips, tmp_path)
    assert "has 1 lines, prompts.txt has 2" in lines["more/prompts.txt"]


def test_what_a_table_says_wrongly_has_a_line_each(clips, tmp_path):
    rows = ['{"file": "a.gif", "caption": "one"}', "[" * 10_000, "5", '{"file": "b.gif"}',
            '{"file": "a.gif", "caption": "uno"}', '{"file": "../own.gif", "caption": "x"}',
            '{"file": "/etc/passwd", "caption": "x"}']  # fmt: skip
    (clips / "captions.jsonl").write_text("\n".join(rows))
    (clips / "lonely.txt").write_text("no clip of this name")
    (clips / "notes.csv").write_text("a,b\n1,2\n")
    captions, lines = build(clips, tmp_path)
    assert captions == {"a.gif": "one", "own.gif": "its own words"}
    wrong = {f"captions.jsonl:{i}" for i in (2, 3, 4, 5)}
    told = {"b.gif", "c.gif", "more/d.gif", "../own.gif", "etc/passwd", "lonely.txt", "notes.csv"}
    assert set(lines) == wrong | told
    assert "another caption of a.gif" in lines["captions.jsonl:5"] and "beside no clip" in lines["lonely.txt"]


def test_a_table_that_breaks_off_keeps_what_came_before(clips):
    (clips / "captions.jsonl").write_bytes(b'{"file": "a.gif", "caption": "one"}\n\xff')
    report = []
    assert captions_under(clips, report).by_name == {} and "byte 0xff at 36" in report[0]["reason"]


# --- shards ---------------------------------------------------------------------------------------------------------


def shard(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("name,mode", [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz")])
def test_shards_of_every_usual_layout(tmp_path, name, mode):
    write_video(FRAMES, tmp_path / "x.gif", 8.0)
    clip = (tmp_path / "x.gif").read_bytes()
    folder = tmp_path / "shards"
    folder.mkdir()
    members = {
        "1.txt": "one".encode("utf-8-sig"), "1.gif": clip,
        "2.gif": clip, "2.json": b'{"caption": "two", "width": 5}',
        "d/3.video.gif": clip, "d/3.caption.txt": b"three",
        "4.gif": clip, "4.cls": b"4",
        "5.gif": clip, "5.txt": b"caf\xe9",
        "6.gif": clip,
        "7.json": json.dumps({"captions": [{"text": "seven", "share": 1.0}], "caption": "no"}).encode(), "7.gif": clip,
        "8.bin": b"?", "9.txt": b"of a clip that is not there",
        "v1.2.gif": clip, "v1.2.txt": b"dotted",
        "clip_0.5.gif": clip, "clip_0.7.txt": b"of another clip", "clip_0.caption.txt": b"of another clip",
    }  # fmt: skip
    shard(folder / name, members, mode)
    captions, lines = build(folder, tmp_path)
    texts_alone = ("clip_0.7.txt", "clip_0.caption.txt", "9.txt")
    expected = {"1.gif": "one", "2.gif": "two", "d/3.video.gif": "three", "4.gif": "4", "7.gif": "seven"}
    assert captions == {f"{name}/{key}": words for key, words in (expected | {"v1.2.gif": "dotted"}).items()}
    assert set(lines) == {f"{name}/{key}" for key in ("5.gif", "6.gif", "8.bin", "clip_0.5.gif", *texts_alone)}
    assert all(lines[f"{name}/{text}"] == "a text beside no clip of the shard" for text in texts_alone)
    assert "byte 0xe9 at 3" in lines[f"{name}/5.gif"]


def test_a_shard_that_unpacks_to_a_disk_full_is_refused(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "bomb.tar.gz", {"1.txt": b"x", "1.mp4": bytes(50_000_000)}, "w:gz")
    write_video(FRAMES, folder / "a.gif", 8.0)
    (folder / "a.txt").write_text("a")
    captions, lines = build(folder, tmp_path)
    assert captions == {"a.gif": "a"} and "unpacks to more than 100 times" in lines["bomb.tar.gz"]


@pytest.mark.slow
def test_curation_loses_no_run_to_one_caption(tmp_path, clips):
    from muybridge.curation.pipeline import Curation
    from muybridge.curation.settings import CurationSettings, SelectSettings, SurveySettings

    for name in ("a", "b"):
        (clips / f"{name}.txt").write_bytes(b"caf\xe9" if name == "a" else "a red fox".encode("utf-16"))
        write_video(np.random.default_rng(ord(name)).integers(0, 255, (40, 64, 64, 3), np.uint8), clips / f"{name}.gif")
    settings = CurationSettings(SurveySettings(min_seconds=0.1), select=SelectSettings(drop={}, duplicates=0))
    outcome = Curation(clips, tmp_path / "out", settings).run()
    told = {clip["path"]: clip for clip in outcome.clips}
    assert [c["text"] for c in told["b.gif"]["captions"]] == ["a red fox"]
    assert told["a.gif"]["captions"] == [] and "byte 0xe9 at 3" in str(told["a.gif"]["problems"])


def test_captions_and_prompts_that_are_not_read_to_their_end_are_told(tmp_path, clips, tiny_recipe):
    from dataclasses import replace

    from muybridge.models.text.encoder import TextConfig, told_of_long_captions
    from tests.conftest import write_recipe

    words = "a dog that runs over a wide green field towards a river in the early morning light"
    told = told_of_long_captions(["a dog", words, words], TextConfig(max_length=8))
    assert told.startswith("2 of 3 captions are longer than the 8 tokens") and "river" in told and "runs" not in told
    assert told_of_long_captions(["a dog"], TextConfig(max_length=8)) == ""
    (clips / "a.txt").write_text(words)
    data = {"source": "folder", "path": str(clips), "height": 16, "width": 16, "num_frames": 2, "split": "all"}
    recipe = write_recipe(replace(tiny_recipe, text=TextConfig(max_length=8), data=data), tmp_path / "r.yaml")
    done = CliRunner().invoke(app, ["data", "show", str(recipe)])
    assert done.exit_code == 0 and "1 of 2 captions are longer than the 8 tokens" in done.output, done.output
