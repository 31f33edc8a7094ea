"""Trains recipes in a process of its own, as one of several where a launcher started it; optionally signals itself in
the middle of a step.

    python -m tests.training.runner RECIPE FOLDER [RECIPE FOLDER ...] [--stopped STEP SIGNAL [RANK]]

Beside each run it writes FOLDER.RANK.json: how many processes found each other, on how many tensors each holds a share,
the step after which it was stopped, and at its very end which threads are still there (Linux).
"""

import argparse
import atexit
import json
import os
import signal
import sys
from pathlib import Path

from muybridge.errors import UserError
from muybridge.training.recipe import load_recipe
from muybridge.training.trainer import Trainer


def _threads(folder: Path) -> None:
    path = folder.with_name(f"{folder.name}.{os.environ.get('RANK', 0)}.json")
    if path.exists():
        threads = sorted(p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm"))
        path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": threads}))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--stopped", nargs="+", type=int, default=[-1, 0])
    told = parser.parse_args()
    return max(train(*run, *told.stopped) for run in zip(told.runs[::2], told.runs[1::2], strict=True))


def train(file: Path, folder: Path, at: int, number: int, whose: int = 0) -> int:
    recipe = load_recipe(file)
    atexit.register(_threads, folder)  # before the trainer registers its own: runs behind it
    try:
        trainer = Trainer(recipe, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rank, losses, seen = trainer.accelerator.process_index, trainer.system.losses, []

    def watched(model, batch):
        if model.training:
            seen.append(batch.step)
            if batch.step == at and rank == whose:
                os.kill(os.getpid(), number)
        return losses(model, batch)

    trainer.system.losses = watched
    code = 0
    try:
        trainer.run()
    except KeyboardInterrupt:
        code = 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    report = {
        "processes": trainer.accelerator.num_processes,
        "device": str(trainer.accelerator.device),
        "sharded": sum(hasattr(p, "placements") for p in trainer.model.parameters()),
        "held": sum((p.to_local() if hasattr(p, "placements") else p).numel() for p in trainer.model.parameters()),
        "last": seen[-1] if seen else None,
    }
    folder.with_name(f"{folder.name}.{rank}.json").write_text(json.dumps(report))
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
