"""The predicted peak against the measured one, each run in a process of its own: `python -m benchmarks.peaks`.

Twelve runs of bundled models and of random weights at Stable Diffusion 1.5's widths; results in peaks.json, which a
second call completes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.against_diffusers import stable_diffusion_folder

RESULTS = Path(__file__).with_name("peaks.json")
WORDS = "fox, fluent style"
RANDOM = ("SD", "SD half")
LARGE = {"height": 128, "width": 128}
#: name -> model (of RANDOM, or bundled), memory, settings of a call, and how many frames are given (none by default).
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "world-vdm, as it comes": ("world-vdm", "balanced", {}),
    "world-vdm, 16 frames of 128x128": ("world-vdm", "balanced", {"num_frames": 16, **LARGE}),
    "emoji-video, 64 frames": ("emoji-video", "balanced", {"num_frames": 64}),
    "emoji-video, 64 frames, low": ("emoji-video", "low", {"num_frames": 64}),
    "emoji-image at 256x256": ("emoji-image", "balanced", {"height": 256, "width": 256}),
    "SD 1.5 at 256x256": ("SD", "balanced", {"height": 256, "width": 256}),
    "SD 1.5 at 512x512": ("SD", "balanced", {"height": 512, "width": 512}),
    "SD 1.5 at 512x512, low": ("SD", "low", {"height": 512, "width": 512}),
    "SD 1.5 at 512x512, half-precision files": ("SD half", "balanced", {"height": 512, "width": 512}),
    "SD 1.5 at 512x512, half-precision files, low": ("SD half", "low", {"height": 512, "width": 512}),
    "world-vdm, 16 frames of 128x128, 4 given": ("world-vdm", "balanced", {"num_frames": 16, **LARGE, "given": 4}),
    "emoji-video, 64 frames, 4 given": ("emoji-video", "balanced", {"num_frames": 64, "given": 4}),
}


def one(name: str, folder: Path) -> dict[str, float]:
    """Predicted and measured bytes of one run of two steps."""
    import numpy as np

    from muybridge.opening.sampling import load_pipeline
    from muybridge.pipelines.continuation import extend_video
    from muybridge.pipelines.peak import peak_bytes, watch

    model, memory, how = RUNS[name]
    settings = {"num_inference_steps": 2, **how}
    known = settings.pop("given", 0)
    pipeline: Any = load_pipeline(str(folder / model) if model in RANDOM else model, "cpu", memory=memory)
    found: list[Any] = []
    watch(pipeline, found.append)
    words = "a" if model in RANDOM else WORDS
    if known:
        size = pipeline.settings(**settings)
        given = np.random.default_rng(0).integers(0, 256, (known, size.height, size.width, 3), np.uint8)
        extend_video(pipeline, given, words, size.num_frames - known, context_frames=known, **settings)
    else:
        pipeline(words, seed=0, **settings)
    measured = peak_bytes(pipeline.device)
    return {"predicted": found[0].total, "measured": measured, "ratio": found[0].total / measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", default="")
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.folder)))
        return
    figures = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for model in RANDOM:
            stable_diffusion_folder(folder / model, half=model == "SD half")
        for name in (n for n in RUNS if n not in figures):
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peaks", "--one", name, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            figures[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, figures[name], flush=True)
            RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
