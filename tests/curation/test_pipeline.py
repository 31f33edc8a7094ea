"""From footage to shards: everything is accounted for, runs resume to the same bytes, damage costs one file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.curation import bytes_of
from muybridge.curation.pipeline import Curation, CurationSettings
from muybridge.curation.report import summary
from muybridge.curation.select import SelectSettings, read_decisions, select, thresholds_of
from muybridge.curation.stages import ScoreSettings
from muybridge.curation.survey import SurveySettings
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from tests.curation.conftest import QUICK

REPOSITORY = Path(__file__).parents[2]


def test_everything_is_accounted_for(run, footage):
    outcome = run.run()
    rows = pq.read_table(run.output / "manifest.parquet").to_pylist()
    assert {s["path"] for s in outcome.sources} == {"deep/copy.mp4", "film1.mp4", "still.mp4"}
    assert next(s for s in outcome.sources if s["path"] == "deep/copy.mp4")["twins"] == ["film0.mp4"]
    twin = [r for r in rows if r["path"] == "film0.mp4"]
    assert [r["reasons"] for r in twin] == [["the same bytes as deep/copy.mp4"]]
    assert len(rows) - 1 == len(outcome.clips) == len({r["clip_id"] for r in rows} - {""})
    assert all(bool(r["reasons"]) != r["keep"] for r in rows)
    members = []
    for shard in sorted((run.output / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members += [m.name for m in tar.getmembers()]
    kept = [r for r in rows if r["keep"]]
    assert kept and sorted(members) == sorted(f"{r['clip_id']}.{e}" for r in kept for e in ("json", "mp4", "txt"))
    for row in kept:
        clip = read_video(run.output / row["file"])
        assert clip.frames.shape[1:3] == (row["height"], row["width"])
        assert abs(len(clip.frames) / 24 - (row["end"] - row["start"])) < 0.1
        assert set(json.loads(row["stages"])) == {"score"} and row["score_motion"] is not None
    captions = {r["path"]: json.loads(r["captions"]) for r in kept}
    if "film1.mp4" in captions:
        assert captions["film1.mp4"][0]["text"] == "coloured things that move"
    still = [r for r in rows if r["path"] == "still.mp4"]
    assert still and not any(r["keep"] for r in still) and "motion" in still[0]["reasons"][0]
    page = (run.output / "report.html").read_text()
    assert "data:image/jpeg" in page and "deep/copy.mp4" in page
    counted = dict(summary(outcome))
    assert counted["clips"] == counted["  kept"] + sum(v for k, v in counted.items() if k.startswith("  dropped"))


def test_a_second_run_does_nothing_and_changes_nothing(run):
    run.run()
    before = bytes_of(run.output)
    stamps = {p: p.stat().st_mtime_ns for p in (run.output / "stages").rglob("*.parquet")}
    Curation(run.footage, run.output, QUICK).run()
    assert bytes_of(run.output) == before
    assert {p: p.stat().st_mtime_ns for p in (run.output / "stages").rglob("*.parquet")} == stamps


def test_changed_words_beside_a_file_are_read_again(footage, tmp_path):
    copy = shutil.copytree(footage, tmp_path / "footage")

    def captions(words):
        (copy / "film1.txt").write_text(words)
        clips = Curation(copy, tmp_path / "out", QUICK).run().clips
        return {c["captions"][0]["text"] for c in clips if c["path"] == "film1.mp4" and c["captions"]}

    assert captions("things that move") == {"things that move"}
    surveys = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("stages/survey-*/*/*.parquet")}
    assert surveys and captions("things of other colours") == {"things of other colours"}
    assert {p: p.stat().st_mtime_ns for p in surveys} == surveys


def command(footage, output):
    options = ["--min-seconds", "1", "--max-seconds", "4", "--per-shard", "4"]
    return [sys.executable, "-m", "muybridge.cli.main", "curate", "run", str(footage), "-o", str(output), *options]


@pytest.mark.slow
def test_kill_9_anywhere_ends_in_the_same_bytes(footage, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    began = time.time()
    subprocess.run(command(footage, tmp_path / "whole"), check=True, env=environment, capture_output=True)
    whole = time.time() - began
    for i in range(4):
        process = subprocess.Popen(command(footage, tmp_path / "killed"), env=environment, start_new_session=True)
        time.sleep(whole * (0.35 + 0.2 * i))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(footage, tmp_path / "killed"), check=True, env=environment, capture_output=True)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_ray_workers_give_the_same_bytes(footage, tmp_path):
    pytest.importorskip("ray")
    Curation(footage, tmp_path / "alone", QUICK).run()
    Curation(footage, tmp_path / "ray", QUICK).run(workers=2)
    import ray

    ray.shutdown()
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "alone")


# --- damaged footage ------------------------------------------------------------------------------------------------


def encode(path, times, size=(64, 48), rotation=0, pixel_format="yuv420p", codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, t in enumerate(times):
            picture = np.full((size[1], size[0], 3), 60, np.uint8)
            picture[4:20, i // 3 : i // 3 + 16] = (120, 60, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(t * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


def test_damaged_files_cost_only_themselves(footage, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    even = [i / 24 for i in range(60)]
    good = (footage / "film1.mp4").read_bytes()
    encode(folder / "good.mp4", even)
    encode(folder / "odd.mkv", even, (63, 47), 0, "yuv444p")
    uneven = list(np.cumsum(np.where(np.arange(60) % 3, 0.02, 0.09)))
    encode(folder / "uneven.mp4", uneven)
    encode(folder / "one frame.mp4", even[:1])
    sound(folder / "sound.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(os.urandom(5000))
    (folder / "cut.mp4").write_bytes(good[: len(good) // 2])
    (folder / "head.mp4").write_bytes(good[:200])
    (folder / "text.mp4").write_text("this is no film")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    holed = bytearray((folder / "odd.mkv").read_bytes())
    holed[len(holed) // 2 : len(holed) // 2 + 400] = os.urandom(400)
    (folder / "holed.mkv").write_bytes(holed)
    encode(folder / "late.mp4", [5 + t for t in even])
    encode(folder / "tiny.mp4", even, (8, 8))
    encode(folder / "tall.mkv", even, (48, 128))
    (folder / "half.mkv").write_bytes((folder / "tall.mkv").read_bytes()[:900])
    (folder / "wrong.avi").write_bytes((folder / "good.mp4").read_bytes())  # an ending that lies
    (folder / "picture.gif").write_bytes(b"GIF89a" + bytes(20))
    (folder / "no ending").write_bytes(good[:5000])
    turned(folder / "turned.mp4", folder / "good.mp4")
    names = {p.name for p in folder.iterdir()}
    assert len(names) == 20
    settings = replace(QUICK, select=SelectSettings(drop={"motion": 0.0}, duplicates=0.0))
    run = Curation(folder, tmp_path / "out", settings)
    outcome = run.run()
    rows = pq.read_table(run.output / "manifest.parquet").to_pylist()
    assert {r["path"] for r in rows} == names == {n for s in outcome.sources for n in (s["path"], *s["twins"])}
    kinds = {s["path"]: s["problem"].get("kind", "") for s in outcome.sources}
    assert kinds["good.mp4"] == kinds["odd.mkv"] == kinds["uneven.mp4"] == ""
    assert (
        kinds["empty.mp4"] == "empty" and kinds["sound.mp4"] == "no video stream" and kinds["notes.pdf"] == "not video"
    )
    assert all(
        kinds[n] for n in ("noise.mp4", "cut.mp4", "head.mp4", "text.mp4", "half.mkv", "picture.gif", "no ending")
    )
    assert kinds["late.mp4"] == kinds["tiny.mp4"] == kinds["tall.mkv"] == kinds["turned.mp4"] == ""
    assert all(bool(r["reasons"]) != r["keep"] for r in rows)
    probes = {s["path"]: s["probe"] for s in outcome.sources}
    assert probes["uneven.mp4"]["variable_rate"] and not probes["good.mp4"]["variable_rate"]
    assert [r["reasons"][0].split(":")[0] for r in rows if r["path"] == "one frame.mp4"] == ["too short"]
    odd = next(r for r in rows if r["path"] == "odd.mkv" and r["keep"])
    assert (odd["width"], odd["height"]) == (63, 47)
    upright = next(r for r in rows if r["path"] == "turned.mp4" and r["keep"])
    assert (upright["width"], upright["height"]) == (48, 64)


def turned(path, flat):
    """The same file with a display matrix that asks for a quarter turn."""
    data = bytearray(flat.read_bytes())
    place = data.find(b"tkhd") + 4 + 40  # version 0: the display matrix
    unit, zero = (1 << 16).to_bytes(4, "big"), bytes(4)
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    data[place : place + 20] = zero + unit + zero + minus + zero
    path.write_bytes(data)


def test_a_turned_file_comes_out_upright(tmp_path):
    folder = tmp_path / "turned"
    folder.mkdir()
    turned(folder / "turned.mp4", encode(tmp_path / "flat.mp4", [i / 24 for i in range(60)]))
    settings = replace(QUICK, select=SelectSettings(drop={"motion": 0.0}))
    outcome = Curation(folder, tmp_path / "out", settings).run()
    (source,) = outcome.sources
    assert source["probe"]["rotation"] in (90, 270) and (source["probe"]["width"], source["probe"]["height"]) == (
        48,
        64,
    )
    assert any(c["keep"] for c in outcome.clips), outcome.clips
    clip = next(c for c in outcome.clips if c["keep"])
    assert read_video(tmp_path / "out" / clip["file"]).frames.shape[1:3] == (64, 48) and not clip["copied"]


# --- deciding -------------------------------------------------------------------------------------------------------


def clips_with(**scores):
    count = len(next(iter(scores.values())))
    rows = []
    for i in range(count):
        row = {"clip_id": f"{i:04d}", "keep": True, "reasons": [], "fingerprint": [], "width": 8, "height": 8}
        rows.append(row | {"scores": {n: v[i] for n, v in scores.items()}})
    return rows


def test_shares_drop_the_worst():
    clips = clips_with(motion=list(range(10)), text=[i / 10 for i in range(10)])
    select(clips, SelectSettings(drop={"motion": 0.25, "text": 0.3}))
    kept = [c["scores"]["motion"] for c in clips if c["keep"]]
    assert kept == [2, 3, 4, 5, 6]  # ceil(.75 x 10) stay of motion, the 3 with most text go
    assert thresholds_of(clips_with(motion=[1.0]), SelectSettings()) == {}


def test_limits_keep_share_and_missing_scores():
    clips = clips_with(motion=[0.1, 0.5, None, 0.9])
    select(clips, SelectSettings(limits={"motion": 0.4}))
    assert [c["keep"] for c in clips] == [False, True, False, True]
    assert clips[2]["reasons"] == ["motion: not measured"] and "at least 0.4" in clips[0]["reasons"][0]
    clips = clips_with(motion=[0.1, 0.5, None, 0.9])
    select(clips, SelectSettings(limits={"motion": 0.4}, unscored="keep"))
    assert clips[2]["keep"]
    rng = np.random.default_rng(0)
    for target in (0.4, 0.6, 0.9):
        many = clips_with(motion=rng.random(200).tolist(), sharpness=rng.random(200).tolist())
        select(many, SelectSettings(keep=target, duplicates=0.0))
        assert abs(np.mean([c["keep"] for c in many]) - target) < 0.03


def test_of_duplicates_the_best_stays():
    clips = clips_with(sharpness=[1.0, 5.0, 3.0])
    for clip, word in zip(clips, ("00ff00ff00ff00ff", "00ff00ff00ff00fe", "123456789abcdef0"), strict=True):
        clip["fingerprint"] = [word]
    select(clips, SelectSettings(drop={"sharpness": 0.0}))
    assert [c["keep"] for c in clips] == [False, True, True] and "duplicate of 0001" in clips[0]["reasons"][0]


def test_what_is_decided_by_hand_overrules_scores_and_twins_and_no_other_clip():
    def decided(decisions):
        clips = clips_with(sharpness=[1.0, 5.0, 3.0, 2.0])
        for clip, word in zip(
            clips, ("00ff00ff00ff00ff", "00ff00ff00ff00fe", "123456789abcdef0", "f" * 16), strict=True
        ):
            clip["fingerprint"] = [word]
        limits = select(clips, SelectSettings(drop={"sharpness": 0.25}), decisions)
        return limits, [c["keep"] for c in clips], [c["reasons"] for c in clips]

    limits, kept, _ = decided({})
    assert kept == [False, True, True, True]
    assert decided({"0000": "keep"})[:2] == (limits, [True, False, True, True])  # its sharper twin goes
    assert decided({"0000": "keep", "0001": "keep"})[1] == [True] * 4
    _, kept, reasons = decided({"0002": "drop"})
    assert kept == [False, True, False, True] and reasons[2] == ["by hand: dropped"]


def test_a_decision_that_cannot_be_followed_is_told(run, tmp_path):
    kept = next(c for c in run.run().clips if c["keep"])["clip_id"]
    (tmp_path / "d.yaml").write_text(f"'{kept}': drop\n'{'0' * 24}': keep\n")
    settings = replace(QUICK, select=replace(QUICK.select, decisions=str(tmp_path / "d.yaml")))
    again = Curation(run.footage, run.output, settings)
    outcome = again.run()
    assert next(c for c in outcome.clips if c["clip_id"] == kept)["reasons"] == ["by hand: dropped"]
    assert outcome.unmet == ("0" * 24,)
    counted = dict(summary(outcome))
    assert counted["  dropped: by hand"] == 1 and counted["decisions by hand that could not be followed"] == 1
    report = (run.output / "report.html").read_text()
    assert kept in report and f"{'0' * 24}</td><td>decided by hand: no such clip" in report
    assert Curation.reopened(run.output).settings == settings


def test_a_word_that_is_no_decision_is_refused(tmp_path):
    (tmp_path / "d.yaml").write_text("abc: maybe\n")
    with pytest.raises(UserError, match=r"abc: expected keep or drop, got maybe"):
        read_decisions(str(tmp_path / "d.yaml"))
    with pytest.raises(UserError, match="no list of decisions at"):
        read_decisions(str(tmp_path / "none.yaml"))


def test_clips_with_like_embeddings_are_duplicates():
    clips = clips_with(sharpness=[1.0, 5.0, 3.0])
    for clip, row in zip(clips, ([1.0, 0.0], [0.99, 0.05], [0.0, 1.0]), strict=True):
        clip["fingerprint"], clip["embedding"] = [f"{hash(clip['clip_id']) & (2**64 - 1):016x}"], row
    select(clips, SelectSettings(drop={"sharpness": 0.0}, duplicates=0.0, alike=0.98))
    assert [c["keep"] for c in clips] == [False, True, True] and "duplicate of 0001 (emb" in clips[0]["reasons"][0]
    with pytest.raises(UserError, match="alike must be in 0..1"):
        SelectSettings(alike=2)


def test_errors(tmp_path, footage):
    with pytest.raises(UserError, match="motion"):
        SelectSettings(drop={"motoin": 0.2})
    with pytest.raises(UserError, match="drop.motion must be at least 0 and below 1"):
        SelectSettings(drop={"motion": 1.2})
    with pytest.raises(UserError, match="min_seconds"):
        SurveySettings(min_seconds=5, max_seconds=2)
    with pytest.raises(UserError, match="farneback"):
        ScoreSettings(flow="farnback")
    with pytest.raises(UserError, match="vocabulary"):
        ScoreSettings(captions="retrieval")
    with pytest.raises(UserError, match="auto"):
        CurationSettings(split="atuo")
    with pytest.raises(UserError, match="no folder"):
        Curation(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="inside"):
        Curation(footage, footage / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.doc").write_text("x")
    with pytest.raises(UserError, match="thesis.doc.*nothing was changed"):
        Curation(footage, tmp_path / "used")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="no file"):
        Curation(tmp_path / "bare", tmp_path / "out").run()


def test_training_reads_the_shards(run):
    from muybridge.data.folder import FolderConfig, FolderSource
    from muybridge.data.packs import report_lines

    outcome = run.run()
    kept = [c for c in outcome.clips if c["keep"]]
    captioned = [c for c in kept if c["captions"]]
    assert captioned
    config = FolderConfig(str(run.output), 32, 32, 8, 8.0, store=str(run.output.parent / "store"), split="all")
    source = FolderSource(config)
    assert set(source.captions()) == {"coloured things that move"}
    assert source.clip(0).frames.shape == (8, 32, 32, 3)
    origins = {e.origin.rpartition("/")[2] for e in source.entries}
    assert origins == {f"{c['clip_id']}.mp4" for c in captioned}
    told = [line["file"] for line in report_lines(source.store) if "no caption" in line["reason"]]
    assert len(told) == len(kept) - len(captioned)
