"""animate and upsample-fps on tiny models, and their replay."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.models.text.scorers import DualEncoder
from muybridge.systems.stable_video.training import StableVideo
from muybridge.systems.video_ldm.training import VideoLDM
from tests.conftest import randomise
from tests.tiny_models import TEXT

RUN = CliRunner()


@pytest.fixture
def animator(tmp_path, picture_model):
    DualEncoder(hidden=16, width=8).save_pretrained(tmp_path / "scorer")
    system = StableVideo({"image": str(picture_model), "scorer": str(tmp_path / "scorer")}, {}, None)
    sampling = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 2, "fps": 6.0, "threshold": "none"}
    network = system.build()
    randomise(network.temporal)
    system.save(network, tmp_path / "animator", sampling)
    return tmp_path / "animator"


def test_animate_and_replay(tmp_path, animator):
    picture = np.zeros((40, 30, 4), np.uint8)
    picture[10:20, 5:25] = (255, 0, 0, 255)
    Image.fromarray(picture).save(tmp_path / "p.png")
    arguments = ["animate", str(tmp_path / "p.png"), "-o", str(tmp_path / "o.mp4"), "--model", str(animator)]
    done = RUN.invoke(
        app, [*arguments, "--motion", "200", "--seed", "3", "--precision", "bf16", "--guidance-start", "0.5"]
    )
    assert done.exit_code == 0, done.output
    assert read_video(tmp_path / "o.mp4").frames.shape == (4, 16, 16, 3)
    again = RUN.invoke(app, ["replay", str(tmp_path / "o.mp4")])
    assert again.exit_code == 0 and "every frame equals" in again.output
    Image.fromarray(picture[::-1].copy()).save(tmp_path / "p.png")
    assert "has changed" in RUN.invoke(app, ["replay", str(tmp_path / "o.mp4")]).output
    for wrong, word in ((["--motion", "900"], "0..255"), (["--steps", "0"], "steps"), (["--upscale", "99"], "upscale")):
        failed = RUN.invoke(app, [*arguments[:3], str(tmp_path / "w.mp4"), *arguments[4:], *wrong])
        assert failed.exit_code == 2 and word in failed.output and not (tmp_path / "w.mp4").exists()
    failed = RUN.invoke(
        app, ["animate", str(tmp_path / "p.png"), "-o", str(tmp_path / "w.mp4"), "--model", "world-vdm"]
    )
    assert failed.exit_code == 2 and "brings a picture to life" in failed.output


def test_upsample_fps_and_replay(tmp_path, picture_model):
    system = VideoLDM({"image": str(picture_model)}, {"task": "interpolation"}, TEXT)
    sampling = {"num_frames": 5, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 1.0}
    system.save(system.build(), tmp_path / "between", {**sampling, "threshold": "none"})
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "v.npy", 4.0)
    out = tmp_path / "o.npy"
    arguments = ["upsample-fps", str(tmp_path / "v.npy"), "-o", str(out), "--precision", "bf16", "--model"]
    arguments.append(str(tmp_path / "between"))
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    made = np.load(out)
    assert made.shape == (9, 16, 16, 3) and np.array_equal(made[::4], frames)
    assert "36 fps" in done.output or "fps" in done.output
    again = RUN.invoke(app, ["replay", str(out)])
    assert again.exit_code == 0 and "every frame equals" in again.output
    assert RUN.invoke(app, [*arguments, "--rounds", "2"]).exit_code == 0 and len(np.load(out)) == 33
    assert RUN.invoke(app, [*arguments, "--rounds", "3"]).exit_code == 2
    failed = RUN.invoke(app, [*arguments[:-1], "world-vdm"])
    assert failed.exit_code == 2 and "interpolate" in failed.output
