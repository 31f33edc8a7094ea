"""What `plan` says of memory against what `train` takes: peak of the process, on six recipes.

python -m benchmarks.planning
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

#: What makes a network read captions.
READS = {"text_pooled_dim": 384, "text_token_dim": 384}
TEXT = {"encoder": "all-MiniLM-L6-v2", "max_length": 16}
TRAINING = {"steps": 12, "warmup_steps": 2, "validate_every": 6, "sample_every": 6, "checkpoint_every": 4, "threads": 1}


def world(frames: int, side: int, clips: int = 64) -> dict[str, Any]:
    return {"source": "world", "height": side, "width": side, "num_frames": frames, "num_clips": clips}


#: name -> system, model, data, batch size, with text
RECIPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], int, bool]] = {
    "small U-Net, 16 pixels": (
        "vdm",
        {"type": "unet3d", "base_channels": 32, "channel_multipliers": [1, 2], "attention_head_dim": 32, **READS},
        world(8, 16), 8, True,
    ),
    "world-vdm's network, 32 pixels": (
        "vdm", {"type": "unet3d", "base_channels": 64, "channel_multipliers": [1, 2, 4], **READS}, world(12, 32), 8,
        True,
    ),
    "transformer, 32 pixels": (
        "vdm",
        {"type": "transformer", "layers": 6, "width": 192, "heads": 6, "patch_size": [1, 4, 4], **READS},
        world(8, 32), 8, True,
    ),
    "Video LDM behind emoji-image, 64 pixels": ("video_ldm", {"image": "emoji-image"}, world(16, 64), 2, True),
    "Gen-1 behind emoji-image, 64 pixels": ("gen1", {"image": "emoji-image"}, world(8, 64), 2, False),
    "autoencoder, 64 pixels": ("autoencoder", {"block_out_channels": [32, 64, 64]}, world(1, 64), 8, False),
}  # fmt: skip


def run(*command: str) -> tuple[str, int]:
    """(what a command printed, the peak of its memory in bytes).

    Raises:
        SystemExit: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "muybridge", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: {output[-2000:]}")
    return output, usage.ru_maxrss * 1024


def main() -> None:
    units = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
    print("| recipe | plan says, MB | train takes, MB | plan above it |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for i, (title, (system, model, data, batch, words)) in enumerate(RECIPES.items()):
            if sys.argv[1:] and not any(word in title for word in sys.argv[1:]):
                continue
            recipe = {"name": f"r{i}", "system": system, "model": model, "data": data}
            recipe |= {"training": {**TRAINING, "batch_size": batch}, "sampling": {"num_inference_steps": 4}}
            path = Path(name) / f"r{i}.yaml"
            path.write_text(yaml.safe_dump({**recipe, **({"text": TEXT} if words else {})}))
            said, _ = run("plan", str(path))
            found = re.search(r"peak memory[^0-9]*([0-9.]+) (kB|MB|GB) of", said)
            assert found is not None, said
            planned = float(found[1]) * units[found[2]]
            _, taken = run("train", str(path), "-o", str(Path(name) / f"run{i}"))
            print(f"| {title} | {planned / 1e6:.0f} | {taken / 1e6:.0f} | {planned / taken - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
