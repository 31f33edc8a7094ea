"""Threads sleep while they wait, unless the user said otherwise, and before torch is there."""

import os
import subprocess
import sys

import pytest

SHOW = "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
ENTRIES = {
    "command line": "import sys; from muybridge.cli.main import app; from typer.testing import CliRunner; "
    "CliRunner().invoke(app, ['models']); ",
    "trainer": "import muybridge.training.trainer; ",
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("chosen", "told"),
    [({}, "passive None"), ({"OMP_WAIT_POLICY": "active"}, "active None"), ({"GOMP_SPINCOUNT": "7"}, "None 7")],
)
def test_entry_points(entry, chosen, told):
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENTRIES[entry] + SHOW],
        env={**clean, **chosen},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == told, done.stderr


@pytest.mark.slow
def test_it_is_too_late_once_torch_is_there():
    code = "import torch, os; from muybridge.waiting import wait_passively; wait_passively(); " + SHOW
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert done.stdout.strip() == "None None", done.stderr
