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
        app, ["animate", str(tmp_path / "p.png"), "-o", str(tmp_path / "w.mp4"), "--model", "emoji-image"]
    )
    assert failed.exit_code == 2 and "brings a picture to life" in failed.output


def test_what_is_cropped_is_told_and_a_speck_is_refused(tmp_path, animator):
    for name, size in (("wide", (60, 20)), ("speck", (1, 1))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    done = RUN.invoke(app, ["animate", f"{tmp_path}/wide.png", "-o", f"{tmp_path}/o.npy", "--model", str(animator)])
    assert done.exit_code == 0 and "60x20 pixels are resized to 16x16, which leaves out 67%" in done.stderr
    done = RUN.invoke(app, ["animate", f"{tmp_path}/speck.png", "-o", f"{tmp_path}/w.npy", "--model", str(animator)])
    assert done.exit_code == 2 and "1x1 pixels" in done.output and not (tmp_path / "w.npy").exists()


@pytest.fixture
def between(tmp_path, picture_model):
    system = VideoLDM({"image": str(picture_model)}, {"task": "interpolation"}, TEXT)
    sampling = {"num_frames": 5, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 1.0}
    system.save(system.build(), tmp_path / "between", {**sampling, "threshold": "none"})
    return tmp_path / "between"


def test_upsample_fps_keeps_the_shape_of_a_video(tmp_path, between):
    frames = np.random.default_rng(0).integers(0, 255, (2, 17, 40, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "v.npy", 4.0)
    arguments = ["upsample-fps", f"{tmp_path}/v.npy", "-o", f"{tmp_path}/o.npy", "--model", str(between)]
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 0 and "40x17 pixels are resized to 38x16\n" in done.stderr, done.output
    assert np.load(tmp_path / "o.npy").shape == (5, 16, 38, 3)
    assert "every frame equals" in RUN.invoke(app, ["replay", f"{tmp_path}/o.npy"]).output
    assert RUN.invoke(app, [*arguments, "--own-size"]).exit_code == 0
    made = np.load(tmp_path / "o.npy")
    assert made.shape == (5, 17, 40, 3) and np.array_equal(made[::4], frames)


def test_upsample_fps_and_replay(tmp_path, between):
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "v.npy", 4.0)
    out = tmp_path / "o.npy"
    arguments = ["upsample-fps", str(tmp_path / "v.npy"), "-o", str(out), "--precision", "bf16", "--model"]
    arguments.append(str(between))
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
