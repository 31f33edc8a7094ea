"""Killed at random moments and started again: does the same command end in the same bytes?

    python -m benchmarks.kills [TRIES] [NAME ...]

Each job first runs undisturbed. Then, TRIES times, it is killed (-9, all of its processes) at a random moment of its
life and started again until it ends; every file that it keeps must have the bytes of the undisturbed run.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.known_footage import film, write_film

RECIPE = {
    "name": "killed", "system": "vdm", "seed": 3,
    "model": {"type": "unet3d", "base_channels": 16, "channel_multipliers": [1, 2], "blocks_per_level": 1,
              "attention_head_dim": 16, "text_pooled_dim": 384},
    "data": {"source": "world", "height": 16, "width": 16, "num_frames": 4, "num_clips": 32},
    "text": {"encoder": "all-MiniLM-L6-v2", "max_length": 12},
    "training": {"steps": 60, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 5, "validate_every": 20,
                 "validation_clips": 4, "sample_every": 30, "ema": 0.9, "threads": 1,
                 "sample_prompts": ["a red circle"]},
    "sampling": {"num_inference_steps": 2},
}  # fmt: skip
#: What says when or how long, and so differs between runs of the same bits.
TIMES = re.compile(rb'"seconds_per_step": [0-9.e+-]+')


@dataclass(frozen=True)
class Job:
    """A command and what it keeps.

    Attributes:
        command: from its output folder to the words of a command line.
        kept: from its output folder to what must have the same bytes.
        victims: whether a process, by its command line, is one that is killed; all by default.
    """

    command: Callable[[Path], Sequence[str]]
    kept: Callable[[Path], dict[str, str]]
    victims: Callable[[str], bool] = lambda line: True


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """SHA-256 of every file that is not hidden, without the times in logs."""
    files = [p for p in sorted(folder.glob(pattern)) if p.is_file()]
    visible = [p for p in files if not any(s.startswith(".") for s in p.relative_to(folder).parts)]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(TIMES.sub(b"", p.read_bytes())).hexdigest() for p in visible
    }


#: In the environment of every process of a job: launchers start theirs in sessions of their own.
MARK = f"MUYBRIDGE_KILLS={os.getpid()}"


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "ACCELERATE_USE_CPU": "1"}
    name, _, value = MARK.partition("=")
    return subprocess.Popen(
        command, env={**environment, name: value}, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def of_the_job() -> dict[int, str]:
    """Every process of the job: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if MARK.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = line
            except OSError:
                continue
    return found


def kill(victims: Callable[[str], bool] = lambda line: True) -> bool:
    """Kill what is to be killed of a job; whether there was anything."""
    hit = [pid for pid, line in of_the_job().items() if victims(line)]
    for pid in hit:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(hit)


def tried(job: Job, folder: Path, seconds: float, rng: random.Random) -> tuple[dict[str, str], int]:
    """(what is kept, how often it was killed): killed once, or twice one time in three."""
    kills = 0
    for _ in range(rng.choice((1, 1, 2))):
        process = start(job.command(folder))
        time.sleep(rng.uniform(0.15, 1.0) * seconds)
        if process.poll() is None:
            kills += kill(job.victims)
        process.wait()  # of a job that lost a worker alone: until it has ended by itself
        kill()
    for _ in range(3):  # Ray may need another start on a loaded machine
        if start(job.command(folder)).wait() == 0:
            break
    return job.kept(folder), kills


def jobs(scratch: Path) -> dict[str, Job]:
    """Training by one and two processes, tuning, distillation, curation by one process and by Ray, a build of data."""
    recipe, footage, clips = scratch / "r.yaml", scratch / "footage", scratch / "clips"
    recipe.write_text(yaml.safe_dump(RECIPE))
    for folder in (footage, clips):
        folder.mkdir()
    for seed in range(4):
        write_film(footage / f"film{seed}.mp4", film(seed, shots=3))
    for seed in range(20):
        write_film(clips / f"{seed}.mp4", film(seed, shots=1))
        (clips / f"{seed}.txt").write_text(f"film {seed}")
    run = [sys.executable, "-m", "muybridge"]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "muybridge.cli.main"]

    def training(folder: Path) -> dict[str, str]:
        newest = max((folder / "checkpoints").glob("step-*"), default=folder)
        return {**digests(folder / "model"), **digests(newest, "*.safetensors"), **digests(folder, "samples/*")}

    def distilling(folder: Path) -> list[str]:
        teacher = scratch / "teacher"  # trained before the first run of it, and never killed
        if not (teacher / "model").is_dir():
            start([*run, "train", str(recipe), "-o", str(teacher)]).wait()
        phases = ["--steps", "2", "--first-steps", "8", "--guidance-training", "12", "--halving-training", "12"]
        return [*run, "distill", str(teacher / "model"), *phases, "-o", str(folder)]

    def curating(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: [*run, "curate", "run", str(footage), "-o", str(folder), "--min-seconds", "1", *more]

    def worker(line: str) -> bool:
        return ("ray::" in line and "SourceWork" in line) or "default_worker.py" in line

    tune = ["--caption", "x", "--train-steps", "12", "--num-frames", "4", "--steps", "2", "--iterations", "1",
            "--height", "32", "--width", "32"]  # fmt: skip
    build = ["--short", "hold", "--size", "32", "--num-frames", "4"]
    return {
        "train": Job(lambda f: [*run, "train", str(recipe), "-o", str(f)], training),
        "train, two processes": Job(lambda f: [*two, "train", str(recipe), "-o", str(f)], training),
        "tune": Job(lambda f: [*run, "tune", str(clips / "0.mp4"), *tune, "--folder", str(f)], training),
        "distill": Job(distilling, lambda f: digests(f, "**/*.safetensors")),
        "curate": Job(curating(), digests),
        "curate, Ray: all": Job(curating("--workers", "2"), digests),
        "curate, Ray: a worker": Job(curating("--workers", "2"), digests, worker),
        "data build": Job(lambda f: [*run, "data", "build", str(clips), "--store", str(f), *build], digests),
    }


def main(tries: int, names: Sequence[str]) -> None:
    rng = random.Random(5)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for title, job in jobs(scratch).items():
            if names and title not in names:
                continue
            command = job.command(scratch / "whole")  # prepares what it starts from
            began = time.monotonic()
            code = start(command).wait()
            seconds, expected = time.monotonic() - began, job.kept(scratch / "whole")
            if code or not expected:
                raise SystemExit(f"{title}: the undisturbed run ended with {code}")
            same = kills = 0
            for i in range(tries):
                folder = scratch / f"try{i}"
                kept, killed = tried(job, folder, seconds, rng)
                same, kills = same + (kept == expected), kills + killed
                if kept != expected:
                    wrong = [n for n in sorted(kept.keys() | expected) if kept.get(n) != expected.get(n)]
                    print(f"  {title}, try {i}: differ: {wrong[:5]}", flush=True)
                shutil.rmtree(folder, ignore_errors=True)
            print(f"| {title} | {kills} kills | {same} of {tries} the same bytes | {seconds:.0f} s |", flush=True)
            shutil.rmtree(scratch / "whole")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2:])
