"""Trains a recipe in a process of its own; optionally kills itself with SIGKILL in the middle of a step."""

import os
import signal
import sys
from pathlib import Path

from muybridge.training.recipe import load_recipe
from muybridge.training.trainer import Trainer


def main() -> None:
    recipe, folder = load_recipe(sys.argv[1]), Path(sys.argv[2])
    kill_at = int(sys.argv[3]) if len(sys.argv) > 3 else -1
    trainer = Trainer(recipe, folder)
    if kill_at >= 0:
        losses = trainer.system.losses

        def deadly(model, batch):
            if model.training and batch.step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return losses(model, batch)

        trainer.system.losses = deadly
    trainer.run()


if __name__ == "__main__":
    main()
