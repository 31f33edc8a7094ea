"""Every bundled model under every command: a video, or a refusal in words with exit code 2; never a traceback."""

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import write_video
from muybridge.library.catalogue import bundled_models

WORDS = {"emoji-image", "emoji-video", "world-vdm"}
MADE = {
    "generate": (("a cat",), WORDS),
    "zero": (("a cat", "--num-frames", "3"), {"emoji-image"}),
    "control": (("{dir}/v.npy", "a cat"), {"emoji-image"}),
    "extend": (("{dir}/v.npy", "--add-frames", "2"), WORDS - {"emoji-image"}),
    "interpolate": (("{dir}/v.npy",), WORDS - {"emoji-image"}),
    "upsample-fps": (("{dir}/v.npy",), {"emoji-between"}),
    "loop": (("{dir}/v.npy",), WORDS - {"emoji-image"}),
    "connect": (("{dir}/v.npy", "{dir}/v.npy"), WORDS - {"emoji-image"}),
    "blend": (("{dir}/v.npy", "{dir}/v.npy"), WORDS),
    "inpaint": (("{dir}/v.npy", "--mask", "{dir}/m.png"), WORDS),
    "outpaint": (("{dir}/v.npy", "--left", "8"), WORDS),
    "animate": (("{dir}/p.png",), {"emoji-animate"} | WORDS - {"emoji-image"}),
    "restyle": (("{dir}/v.npy", "--content", "a cat"), {"emoji-restyle"}),
    "instruct": (("{dir}/v.npy", "make it red"), set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", MADE)
def test_every_model_with(command, tmp_path):
    from PIL import Image

    drawn = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    write_video(drawn, tmp_path / "v.npy", 8)
    Image.fromarray(drawn[0]).save(tmp_path / "p.png")
    Image.fromarray(np.pad(np.full((32, 32), 255, np.uint8), 16)).save(tmp_path / "m.png")
    arguments, makes = MADE[command]
    for model in bundled_models():
        out = tmp_path / f"{model}.npy"
        given = [a.format(dir=tmp_path) for a in arguments]
        done = CliRunner().invoke(app, [command, *given, "--model", model, "--steps", "1", "-o", str(out)])
        assert done.exit_code == (0 if model in makes else 2), (model, done.output, done.exception)
        assert out.exists() == (model in makes), model
        if model not in makes:
            assert model in done.output or "model" in done.output, (model, done.output)
            assert "error: " in done.output
