"""Videos that were made before records had a form are made again from what they hold: every command, the same frames.

The records and frames under `old/` were written by the version before (fa4c5db) on another machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from muybridge.errors import UserError
from muybridge.making.record import FORM, check_record, frames_hash, todays
from muybridge.making.replay import MAKINGS, making_of, replay

OLD = Path(__file__).parent / "old"
NAMES = sorted(p.stem for p in OLD.glob("*.json"))


@dataclass
class Clip:
    frames: np.ndarray
    fps: float = 6.0


@pytest.fixture(scope="module")
def frames():
    with np.load(OLD / "frames.npz") as file:
        return dict(file)


def record_of(name):
    return json.loads((OLD / f"{name}.json").read_text())


def test_the_old_records_cover_every_command_that_needs_no_users_model():
    commands = {record_of(name)["command"] for name in NAMES}
    newer = {
        "upscale",
        "super-resolve",
        "loop",
        "connect",
        "blend",
        "inpaint",
        "outpaint",
        "cinemagraph",
    }  # no version wrote these before
    assert commands == set(MAKINGS) - {"instruct", "edit"} - newer


@pytest.mark.parametrize("name", NAMES)
def test_an_old_record_is_read(name):
    record = record_of(name)
    check_record(record, name)
    made = making_of(todays(record), name)
    assert made.command == record["command"] and todays(record)["form"] == FORM
    assert todays(todays(record)) == todays(record)
    if record.get("prompt"):
        assert record["prompt"] in (getattr(made, "prompt", None), getattr(made, "content", None))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_old_video_is_made_again(name, frames):
    """The same frames; on another processor but for rounding, which guidance may amplify in single pixels."""

    def read(path, most=None):
        return Clip(frames[Path(path).stem][: most or None])

    made = replay(record_of(name), read, name, device="cpu")
    expected = frames[name]
    assert made.frames.shape == expected.shape
    assert np.abs(made.frames.astype(int) - expected).mean() < 0.5
    if frames_hash(made.frames) != record_of(name)["frames_sha256"]:
        print(f"{name}: not the same bits here")


@pytest.mark.parametrize(
    "change,message",
    [
        ({"command": "draw"}, "did you mean|names the command"),
        ({"seed": "many"}, "seed is 'many'"),
        ({"sampling": []}, "sampling is"),
        ({"upscale": 100000}, "upscale is 100000"),
        ({"upscale": "x"}, "upscale is 'x'"),
        ({"lora": 5}, "lora is 5"),
        ({"model": 5}, "model is 5"),
        ({"frames_sha256": None}, "frames_sha256"),
    ],
)
def test_a_damaged_record_is_refused_before_anything_is_opened(change, message):
    with pytest.raises(UserError, match=message):
        replay({**record_of("world"), **change}, None, "file.npy")
    with pytest.raises(UserError, match="no record"):
        check_record({}, "file.npy")


def test_another_source_is_refused(frames):
    def read(path, most=None):
        return Clip(255 - frames[Path(path).stem])

    with pytest.raises(UserError, match="has changed since"):
        replay(record_of("extend"), read, "x", device="cpu")
