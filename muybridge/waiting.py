"""How torch's OpenMP threads wait for each other: asleep, so that other work on the machine goes on."""

from __future__ import annotations

import os
import sys


def wait_passively() -> None:
    """Let OpenMP's threads sleep between parallel regions, unless the user chose otherwise; before torch is loaded.

    By default they spin for milliseconds, which on a machine with other work costs far more than it saves
    (docs/benchmarks.md). OMP_WAIT_POLICY or GOMP_SPINCOUNT in the environment are left as they are.
    """
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
