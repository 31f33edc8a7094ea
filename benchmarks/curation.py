"""Curation measured: `python -m benchmarks.curation known|film|agreement|kills|workers`.

known: transitions on films that were not used to set the rules; then precision and recall of each filter on shots that
are still, cards of moving text, and re-encoded duplicates among ordinary ones.
film: time as a ratio to plain decoding and peak memory, also for the film twice over. agreement: cuts against
TransNetV2. kills: the driver, and a worker of Ray, killed at random moments; the same command must then end in the
bytes of an undisturbed run. workers: two Ray workers against one on the same files, and the same command on a cluster
that runs already.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFont

from benchmarks.known_footage import FPS, SIZE, film, shot, write_film
from muybridge.curation.cuts import CutWatcher
from muybridge.curation.cutting import copy_clip
from muybridge.curation.footage import frames_of, open_footage
from muybridge.curation.motion import STILL
from muybridge.curation.pipeline import Curation, CurationSettings
from muybridge.curation.select import SelectSettings
from muybridge.curation.stages import ScoreSettings
from muybridge.curation.survey import CUT_SIDE, SurveySettings
from muybridge.data.reading.decoding import FilmReader
from muybridge.data.video_io import write_video

RESULTS = Path(__file__).parent / "curation.json"
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "film",
    "rolls",
    "on",
    "and",
    "nobody",
    "reads",
    "this",
    "card",
]


def ratios(true_positive: int, found: int, wanted: int) -> dict[str, float]:
    return {
        "precision": true_positive / found if found else 1.0,
        "recall": true_positive / wanted if wanted else 1.0,
        "found": found,
        "wanted": wanted,
    }


def measure_transitions(seeds: range) -> dict[str, Any]:
    hit = found = wanted = flashes = 0
    kinds: dict[str, list[int]] = {}
    for seed in seeds:
        known = film(seed)
        watcher = CutWatcher()
        for i, frame in enumerate(known.frames):
            watcher.feed(i / FPS, cv2.resize(frame, (120, 72), interpolation=cv2.INTER_AREA))
        zones, used = watcher.finish(), set()
        for kind, first, end in known.transitions:
            hits = [j for j, z in enumerate(zones) if z.start <= (end + 2) / FPS and z.end >= (first - 2) / FPS]
            used.update(hits)
            tally = kinds.setdefault(kind, [0, 0])
            tally[0], tally[1] = tally[0] + bool(hits), tally[1] + 1
        hit += len(used)
        found += len(zones)
        wanted += len(known.transitions)
        flashes += len(known.flashes)
    recall = sum(k[0] for k in kinds.values()) / wanted
    return {"precision": hit / found, "recall": recall, "transitions": wanted, "flashes": flashes, "by kind": kinds}


def text_card(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Lines of text that move over a plain ground."""
    height, width = 2 * SIZE[0], 2 * SIZE[1]
    font = ImageFont.load_default(size=int(rng.integers(22, 30)))
    lines = [" ".join(rng.choice(WORDS, 4)) for _ in range(5)]
    ground, ink = (tuple(int(v) for v in rng.integers(*r, 3)) for r in ((10, 70), (190, 255)))
    out = []
    for i in range(frames):
        card = Image.new("RGB", (width, height), ground)
        draw = ImageDraw.Draw(card)
        for row, line in enumerate(lines):
            draw.text((8, 10 + 36 * row - i * 0.7), line, fill=ink, font=font)
        out.append(np.asarray(card))
    return np.stack(out)


def _other_reasons(clip: dict[str, Any]) -> bool:
    return any(not r.startswith("duplicate") for r in clip["reasons"])


def measure_filters(count: int, text: bool) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "footage"
        folder.mkdir()
        for i in range(count):
            moving = shot(rng, 60).astype(np.uint8)
            large = np.stack([cv2.resize(f, (2 * SIZE[1], 2 * SIZE[0])) for f in moving])
            write_video(large, folder / f"moving-{i:02d}.mp4", FPS)
            again = np.stack([cv2.resize(f, (200, 120), interpolation=cv2.INTER_AREA) for f in large])
            write_video(np.clip(again.astype(int) + 6, 0, 255).astype(np.uint8), folder / f"twin-{i:02d}.mp4", FPS)
            write_video(shot(rng, 60, still=True).astype(np.uint8), folder / f"still-{i:02d}.mp4", FPS)
            if text:
                write_video(text_card(rng, 60), folder / f"card-{i:02d}.mp4", FPS)
        limits = {"motion": STILL} | ({"text": 0.07} if text else {})
        off = {"sharpness": 0.0, "exposure": 0.0}
        settings = CurationSettings(
            SurveySettings(min_seconds=1.0), ScoreSettings(text=text), SelectSettings(off, limits, duplicates=0.08)
        )
        run = Curation(folder, Path(scratch) / "out", settings)
        outcome = run.decide(run.look())

    def kind(clip: dict[str, Any]) -> str:
        return str(clip["path"].split("-")[0])

    clips = [c for c in outcome.clips if c["scores"]]
    told = {
        name: [c for c in clips if any(r.startswith(word) for r in c["reasons"])]
        for name, word in (("still", "motion"), ("card", "text"), ("twin", "duplicate"))
    }
    out = {}
    for name in ("still", "card") if text else ("still",):
        wanted = sum(kind(c) == name for c in clips)
        out[name] = ratios(sum(kind(c) == name for c in told[name]), len(told[name]), wanted)
    # of a pair that passes the other filters one stays; which one is the filter's choice
    passed = [c["path"][-6:-4] for c in clips if kind(c) in ("moving", "twin") and not _other_reasons(c)]
    pairs = {name for name in passed if passed.count(name) == 2}
    gone = {c["path"][-6:-4] for c in told["twin"] if kind(c) in ("moving", "twin")}
    out["twin"] = ratios(len(gone & pairs), len(told["twin"]), len(pairs))
    return out


# --- a real film ------------------------------------------------------------------------------------------------------


def decode_seconds(path: Path) -> float:
    began = time.perf_counter()
    with open_footage(path) as container:
        for _ in frames_of(container):
            pass
    return time.perf_counter() - began


def agreement(path: Path) -> dict[str, float]:
    """Our transitions against TransNetV2's, within a quarter of a second: one decode feeds both."""
    from muybridge.curation.transnet import TransNetWatcher

    cascade, independent = CutWatcher(), TransNetWatcher()
    with open_footage(path) as container:
        for frame in frames_of(container):
            rgb = frame.rgb(CUT_SIDE)
            cascade.feed(frame.time, rgb)
            independent.feed(frame.time, rgb)
    ours, theirs = cascade.finish(), [(z.start, z.end) for z in independent.finish()]
    near = 0.25
    found = sum(any(z.start <= b + near and z.end >= a - near for z in ours) for a, b in theirs)
    right = sum(any(z.start <= b + near and z.end >= a - near for a, b in theirs) for z in ours)
    return {"recall": found / len(theirs), "precision": right / len(ours), "theirs": len(theirs), "ours": len(ours)}


def twice_over(path: Path, target: Path) -> Path:
    """The film after itself in one file, without encoding."""
    import av

    with av.open(str(target), "w") as writer:
        out, shift = None, 0
        for _ in range(2):
            with FilmReader(path) as reader:
                stream, last = reader.stream, 0
                out = out or writer.add_stream_from_template(stream)
                for packet in reader.container.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    last = max(last, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                    writer.mux(packet)
                shift += last
    return target


def measure_film(path: Path, workers: int) -> dict[str, Any]:
    """Curation as a command of its own, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "footage"
        folder.mkdir()
        (folder / path.name).symlink_to(path.resolve())
        plain = min(decode_seconds(path) for _ in range(2))
        command = [sys.executable, "-m", "muybridge.cli.main", "curate", "run", str(folder), "-o", f"{scratch}/out"]
        began = time.perf_counter()
        subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds decoding": plain, "ratio to decoding": took / plain, "peak bytes of a process": peak}


# --- interruptions and workers ----------------------------------------------------------------------------------------


def bytes_of(output: Path) -> dict[str, str]:
    """Everything a run leaves but the report and the settings, which name paths."""
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name not in ("report.html", "run.json"))
    return {p.relative_to(output).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _command(folder: Path, output: Path, *more: str) -> list[str]:
    base = [sys.executable, "-W", "ignore", "-m", "muybridge.cli.main", "curate", "run", str(folder), "-o", str(output)]
    return [*base, "--min-seconds", "1", "--max-seconds", "4", *more]


def _films(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        write_film(folder / f"film{seed}.mp4", film(seed, shots=4))
    return folder


def measure_kills(moments: int) -> dict[str, Any]:
    """SIGKILL of the driver (serially and with Ray), and of a Ray worker, each at random moments of a run."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder = _films(root / "films", 6)
        for output in ("warm", "whole"):
            began = time.perf_counter()
            subprocess.run(_command(folder, root / output), check=True, capture_output=True)
            whole = time.perf_counter() - began
        wanted, tally = bytes_of(root / "whole"), {"driver": [0, 0], "worker": [0, 0]}
        for i in range(moments):
            kind = ("driver", "worker")[i % 2]
            output = root / f"killed{i}"
            run = _command(folder, output, *(("--workers", "2") if kind == "worker" else ()))
            process = subprocess.Popen(
                run, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(whole * float(rng.uniform(0.1, 0.85)) + (6 if kind == "worker" else 0))
            hit = process.poll() is None
            if kind == "driver":
                _kill(partial(os.killpg, process.pid, signal.SIGKILL))
            else:
                workers = [p for p in psutil.process_iter(["cmdline"]) if "ray::" in " ".join(p.info["cmdline"] or [])]
                hit = hit and bool(workers)
                if workers:
                    _kill(workers[int(rng.integers(len(workers)))].kill)
            process.wait()
            subprocess.run(_command(folder, output), check=True, capture_output=True)
            tally[kind][0] += hit and bytes_of(output) == wanted
            tally[kind][1] += hit  # a run that had ended shows nothing
            print(kind, "hit" if hit else "missed", bytes_of(output) == wanted, flush=True)
    return {name: {"same bytes": same, "runs": runs} for name, (same, runs) in tally.items()}


def _kill(action: Callable[[], Any]) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # it had ended already
        action()


def measure_workers(path: Path, pieces: int = 8) -> dict[str, Any]:
    """Survey and scores of a film cut into equal files, by one Ray worker and by two, started before the clock runs."""
    import ray

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "films").mkdir()
        with open_footage(path) as container:
            stream = container.streams.video[0]
            length, base = float(container.duration or 0) / 1e6, float(stream.time_base)
            keys = [float(p.pts) * base for p in container.demux(stream) if p.pts is not None and p.is_keyframe]
        starts = [max(k for k in keys if k <= i * length / pieces + 1e-6) for i in range(pieces)]
        for i, (a, b) in enumerate(zip(starts, [*starts[1:], length], strict=True)):
            copy_clip(path, root / "films" / f"part{i}.mp4", a, b)
        seconds = {}
        os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        for workers in (1, 2, 1, 2):
            run = Curation(root / "films", root / f"out{workers}-{len(seconds)}", CurationSettings())
            rows = [asdict(j) | {"twins": list(j.twins)} for j in run.jobs()]
            run.output.mkdir()
            arguments = (str(run.footage), str(run.output), run.settings, ())
            began = time.perf_counter()
            for _ in run._on_ray(rows, arguments, workers, None):
                pass
            seconds.setdefault(workers, []).append(time.perf_counter() - began)
        address = ray.get_runtime_context().gcs_address
        ours = subprocess.run(
            _command(root / "films", root / "cluster", "--ray-address", address), capture_output=True, text=True
        )
        ray.shutdown()
        subprocess.run(_command(root / "films", root / "alone"), check=True, capture_output=True)
        return {
            "seconds, one worker": min(seconds[1]), "seconds, two workers": min(seconds[2]),
            "times as fast": min(seconds[1]) / min(seconds[2]),
            "on a running cluster": ours.returncode == 0 and bytes_of(root / "cluster") == bytes_of(root / "alone"),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("known", "film", "agreement", "kills", "workers"))
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--count", type=int, default=20, help="shots of each kind")
    parser.add_argument("--text", action="store_true", help="with cards of text (rapidocr)")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if arguments.what == "known":
        results["transitions"] = measure_transitions(range(100, 100 + arguments.films))
        results["filters"] = measure_filters(arguments.count, arguments.text)
    elif arguments.what == "film":
        results["film"] = measure_film(arguments.path, arguments.workers)
        with tempfile.TemporaryDirectory() as scratch:
            double = twice_over(arguments.path, Path(scratch) / "twice.mp4")
            results["film twice over"] = measure_film(double, arguments.workers)
    elif arguments.what == "kills":
        results["kills"] = measure_kills(arguments.count)
    elif arguments.what == "workers":
        results["workers"] = measure_workers(arguments.path)
    else:
        results["agreement"] = agreement(arguments.path)
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
