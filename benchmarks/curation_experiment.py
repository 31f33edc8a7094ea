"""Does filtered data train better: `python -m benchmarks.curation_experiment BIG_BUCK_BUNNY.mp4`.

The first half of the film as it is (hard cuts inside its files), beside single frames held for seconds, cards of text,
and the same few moments encoded again and again. One small network is trained on pieces of all of it, and for as many
steps on what `muybridge curate` keeps of it, three seeds each; then Frechet distances of what they sample to shots of
the film's other half.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.curation import text_card
from muybridge.curation.footage import frames_of, open_footage
from muybridge.curation.motion import STILL
from muybridge.curation.transnet import TransNetWatcher
from muybridge.data import packs
from muybridge.data.video_io import write_video
from muybridge.evaluation.frechet import clip_features, frechet_distance
from muybridge.evaluation.motion import mean_frame_difference
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.opening.sampling import load_pipeline
from muybridge.training.recipe import load_recipe
from muybridge.training.trainer import Trainer

RESULTS = Path(__file__).with_name("curation_experiment.json")
RECIPE = Path(__file__).with_name("curation_experiment.yaml")
FPS, SIDE, FRAMES = 24.0, 144, 8
#: Seconds of the film that the training set is taken from, and the reference; the rest is credits.
TRAINED, MEASURED = (15.0, 285.0), (300.0, 480.0)
SECONDS_A_FILE, STILLS, CARDS, MOMENTS, COPIES = 20, 40, 40, 3, 12
SEEDS = (1, 2, 3)


def film_frames(path: Path, span: tuple[float, float]) -> tuple[np.ndarray, list[float]]:
    """Frames of the film between two times, 256 x 144."""
    frames, times = [], []
    with open_footage(path) as container:
        for frame in frames_of(container, *span):
            frames.append(frame.rgb(SIDE))
            times.append(frame.time)
    return np.stack(frames), times


def make_raw(film: Path, folder: Path) -> dict[str, int]:
    """The mixed set as video files with captions; returns the number of files of each kind."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    frames, _ = film_frames(film, TRAINED)
    made: dict[str, list[np.ndarray]] = {"film": [], "still": [], "card": [], "copy": []}
    step = int(SECONDS_A_FILE * FPS)
    made["film"] = [frames[i : i + step] for i in range(0, len(frames) - step + 1, step)]
    for i in rng.choice(len(frames), STILLS, replace=False):
        made["still"].append(np.repeat(frames[i : i + 1], int(4 * FPS), 0))
    made["card"] = [
        np.stack([cv2.resize(f, (256, 144), interpolation=cv2.INTER_AREA) for f in text_card(rng, int(4 * FPS))])
        for _ in range(CARDS)
    ]
    for start in rng.choice(len(frames) - int(4 * FPS), MOMENTS, replace=False):
        moment = frames[start : start + int(4 * FPS)].astype(np.int16)
        for shift in np.linspace(-8, 8, COPIES):
            made["copy"].append(np.clip(moment + int(shift), 0, 255).astype(np.uint8))
    for kind, clips in made.items():
        for i, clip in enumerate(clips):
            write_video(clip, folder / f"{kind}-{i:02d}.mp4", FPS)
            (folder / f"{kind}-{i:02d}.txt").write_text(f"{kind} {i}")
    return {kind: len(clips) for kind, clips in made.items()}


def reference_clips(film: Path) -> list[np.ndarray]:
    """Pieces of the other half's shots, told apart by TransNetV2 (our own cuts made the curated set), as training sees
    clips."""
    from muybridge.nn.frames import fit_frames

    frames, times = film_frames(film, MEASURED)
    watcher = TransNetWatcher()
    for time, frame in zip(times, frames, strict=True):
        watcher.feed(time, frame)
    zones, out, begin = watcher.finish(), [], times[0]
    for start, end in [*((z.start, z.end) for z in zones), (times[-1], times[-1])]:
        inside = [i for i, t in enumerate(times) if begin <= t < start]
        thinned = frames[inside[:: int(FPS / 8)]]
        out += [fit_frames(thinned[i : i + FRAMES], 32, 32) for i in range(0, len(thinned) - FRAMES + 1, FRAMES)]
        begin = end
    return [clip for clip in out if mean_frame_difference(clip) > 0.5]


def measure(clips: list[np.ndarray], ground: Any, network: PictureFeatures) -> dict[str, float]:
    features = clip_features(network, clips)
    return {
        "motion": frechet_distance(ground.motion, features.motion),
        "appearance": frechet_distance(ground.appearance, features.appearance),
        "frame difference": float(np.median([mean_frame_difference(c) for c in clips])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/curation-experiment"), help="kept: the command goes on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    raw, curated = work / "raw", work / "curated"
    counts = work / "counts.json"
    if not counts.is_file():
        shutil.rmtree(raw, ignore_errors=True)
        counts.write_text(json.dumps(make_raw(arguments.film, raw)))
    command = [sys.executable, "-m", "muybridge.cli.main", "curate", "run", str(raw), "-o", str(curated), "--text",
               "--limit", f"motion={STILL}", "--limit", "text=0.07", "--workers", "1"]  # fmt: skip
    subprocess.run(command, check=True)
    kept = work / "reference.npy"
    if not kept.is_file():
        np.save(kept, np.stack(reference_clips(arguments.film)))
    reference = list(np.load(kept))
    packs.VALIDATION_SHARE = 0.06  # the least with a file of the film among the held-out ones of both sets
    network = PictureFeatures()
    half = len(reference) // 2
    ground = clip_features(network, reference)
    results: dict[str, Any] = {
        "raw files": json.loads(counts.read_text()),
        "reference clips": len(reference),
        "floor: one half of the reference against the other": measure(
            reference[half:], clip_features(network, reference[:half]), network
        ),
        "runs": [],
    }
    for seed in SEEDS:
        for name, folder in (("raw", raw), ("curated", curated)):
            recipe = load_recipe(RECIPE)
            recipe = replace(recipe, training=replace(recipe.training, threads=arguments.threads))
            data = {**recipe.data, "path": str(folder), "store": str(work / f"store-{name}")}
            run = work / f"{name}-{seed}"
            if not (run / "model").is_dir():
                Trainer(replace(recipe, seed=seed, data=data), run, cache=work / "cache").run()
            pipeline: Any = load_pipeline(str(run / "model"))
            frames = pipeline([None] * arguments.samples, seed=0, batch_size=16).frames
            row = {"set": name, "seed": seed, **measure(list(frames), ground, network)}
            results["runs"].append(row)
            print(json.dumps(row), flush=True)
    for key in ("motion", "appearance"):
        values = {n: [r[key] for r in results["runs"] if r["set"] == n] for n in ("raw", "curated")}
        spread = max(max(v) - min(v) for v in values.values())
        results[key] = {
            **{n: float(np.mean(v)) for n, v in values.items()},
            "spread over seeds": spread,
            "better by more than the spread": bool(np.mean(values["raw"]) - np.mean(values["curated"]) > spread),
        }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
