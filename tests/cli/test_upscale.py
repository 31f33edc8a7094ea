"""--upscale: by the network that was made for a model, by a named one, or by repeated pixels; its record and replay."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.library import catalogue
from muybridge.library.index import write_settings
from muybridge.making import upscaling, used
from muybridge.making.upscaling import Upscaling, words_of
from muybridge.models import build_network
from muybridge.models.text.encoder import TextConfig, TextEncoder
from muybridge.models.vision.upscaler import VideoUpscaler, open_upscaler, upscaled_chunks
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, randomise

SAMPLING = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 1.0}
PROMPT = "a red circle moving left"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    network = randomise(build_network(TINY_MODEL), 0.02)
    TextToVideoPipeline(network, text_encoder="all-MiniLM-L6-v2", text_max_length=8, sampling=SAMPLING).save_pretrained(
        folder
    )
    return folder


def save_upscaler(folder, made_for=(), **settings):
    network = randomise(VideoUpscaler(width=8, layers=2, temporal_every=2, embedding_dim=4), 0.05)
    network.save_pretrained(folder)
    text = {"text_encoder": "all-MiniLM-L6-v2", "text_max_length": 8}
    write_settings(folder, {**text, "made_for": list(made_for), **settings})
    return folder


@pytest.fixture
def network(tmp_path):
    return save_upscaler(tmp_path / "network")


@pytest.fixture
def zoo(model, tmp_path, monkeypatch):
    """A zoo whose one upscaler was made for the tiny model."""
    for module in (catalogue, upscaling, used):
        monkeypatch.setattr(module, "ZOO", tmp_path / "zoo")
    save_upscaler(tmp_path / "zoo" / "sharp", [str(model)])
    return tmp_path / "zoo"


def repeated(frames, factor=4):
    return frames.repeat(factor, 1).repeat(factor, 2)


@pytest.fixture
def plain(model, tmp_path):
    """The frames themselves."""
    ok("generate", PROMPT, "--model", model, "-o", tmp_path / "plain.npy")
    return np.load(tmp_path / "plain.npy")


def test_a_named_network_enlarges_with_the_prompts_words(model, network, plain, tmp_path):
    out = tmp_path / "o.npy"
    said = ok("generate", PROMPT, "--model", model, "-o", out, "--upscale", 4, "--upscaler", network)
    assert f"enlarged 4 times by {network}" in said
    text = TextEncoder(TextConfig(max_length=8))([PROMPT]).pooled
    wanted = np.concatenate(list(upscaled_chunks(open_upscaler(network), plain, text)))
    made = np.load(out)
    assert np.array_equal(made, wanted) and made.shape == (4, 64, 64, 3)
    assert not np.array_equal(made, np.concatenate(list(upscaled_chunks(open_upscaler(network), plain))))
    record = read_recipe(out)
    assert record["upscale"] == 4 and record["upscale_method"] == "model" and record["upscaler"] == str(network)
    assert record["files"] == {str(network): {"kind": "folder", "hash": catalogue.model_hash(network)}}
    assert record["frames_sha256"] == read_recipe(tmp_path / "plain.npy")["frames_sha256"]
    assert "the same" in ok("replay", out)
    ok("generate", PROMPT, "--model", model, "-o", tmp_path / "o.mp4", "--upscale", 4, "--upscaler", network)
    assert "the same" in ok("replay", tmp_path / "o.mp4")

    write_video(255 - made, out, 8, record)  # frames that this network never made
    done = run("replay", out)
    assert done.exit_code == 1 and "these are other frames" in done.output
    settings = network / "muybridge.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"note": 1}))
    done = run("replay", out)
    assert done.exit_code == 2 and "has changed since" in " ".join(done.output.split())
    shutil.rmtree(network)
    done = run("replay", out)
    assert done.exit_code == 2 and "is not there any more" in " ".join(done.output.split())


def test_without_a_bundled_network_pixels_are_repeated(model, plain, tmp_path):
    for more in ((), ("--upscale-method", "repeat")):
        said = ok("generate", PROMPT, "--model", model, "-o", tmp_path / "o.npy", "--upscale", 4, *more)
        assert "enlarged 4 times by repeated pixels" in said
        assert np.array_equal(np.load(tmp_path / "o.npy"), repeated(plain))
        record = read_recipe(tmp_path / "o.npy")
        assert record["upscale"] == 4 and not {"upscale_method", "upscaler", "files"} & set(record)
    assert "enlarged" not in ok("generate", PROMPT, "--model", model, "-o", tmp_path / "o.npy")


def test_a_bundled_network_enlarges_the_models_that_it_was_made_for(model, zoo, plain, tmp_path):
    out = tmp_path / "o.npy"
    told = ("generate", PROMPT, "--model", model, "-o", out, "--upscale")
    text = TextEncoder(TextConfig(max_length=8))([PROMPT]).pooled
    wanted = np.concatenate(list(upscaled_chunks(open_upscaler(zoo / "sharp"), plain, text)))
    for more in ((), ("--upscale-method", "model"), ("--upscaler", "sharp")):
        assert "by sharp" in ok(*told, 4, *more)
        assert np.array_equal(np.load(out), wanted) and read_recipe(out)["upscaler"] == "sharp"
        assert "the same" in ok("replay", out)
    for factor, more in ((4, ("--upscale-method", "repeat")), (2, ()), (3, ("--upscale-method", "repeat"))):
        assert "by repeated pixels" in ok(*told, factor, *more)
        assert np.array_equal(np.load(out), repeated(plain, factor))
    save_upscaler(zoo / "sharp", ["another"])
    assert "by repeated pixels" in ok(*told, 4)


def test_an_old_record_is_replayed_with_repeated_pixels(model, zoo, plain, tmp_path):
    """A record from before there were methods, though a network that fits is bundled now."""
    record = {**read_recipe(tmp_path / "plain.npy"), "upscale": 4}
    write_video(repeated(plain), tmp_path / "old.npy", 8, record)
    assert np.array_equal(Upscaling.of(record).enlarged(plain, words_of(record)).whole(), repeated(plain))
    assert "the file itself is at inf dB" in ok("replay", tmp_path / "old.npy")


REFUSED = {
    "no bundled upscaler was made for": ("--upscale", 4, "--upscale-method", "model"),
    "--upscale 2: a network enlarges 4 times": ("--upscale", 2, "--upscale-method", "model"),
    "--upscale 3: a network enlarges 4 times": ("--upscale", 3, "--upscaler", "NETWORK"),
    "--upscaler: not read here, --upscale-method repeat": (
        "--upscale", 4, "--upscale-method", "repeat", "--upscaler", "NETWORK"),
    "--upscaler: not read here, nothing is enlarged": ("--upscaler", "NETWORK"),
    "--upscale-method: not read here, nothing is enlarged": ("--upscale-method", "repeat"),
    "unknown 'modle'; did you mean 'model'": ("--upscale", 4, "--upscale-method", "modle"),
    "'nowhere': no part of a model there": ("--upscale", 4, "--upscaler", "nowhere"),
    "a UNet3DModel, no upscaler": ("--upscale", 4, "--upscaler", "MODEL/network"),
    "which is read and would be changed": ("--upscale", 4, "--upscaler", "NETWORK", "-o", "NETWORK/o.npy"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_made(model, network, tmp_path, words):
    more = [str(x).replace("NETWORK", str(network)).replace("MODEL", str(model)) for x in REFUSED[words]]
    done = run("generate", PROMPT, "--model", model, *(() if "-o" in more else ("-o", tmp_path / "o.npy")), *more)
    told = " ".join(done.output.split())
    assert done.exit_code == 2 and not (tmp_path / "o.npy").exists() and not (network / "o.npy").exists(), told
    assert words in told, told


def test_damaged_weights_are_told_before_sampling(model, network, tmp_path):
    file = network / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    done = run("generate", PROMPT, "--model", model, "-o", tmp_path / "o.npy", "--upscale", 4, "--upscaler", network)
    assert done.exit_code == 2 and "cut short" in done.output and not (tmp_path / "o.npy").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"upscale_method": "model"},
        {"upscaler": "network"},
        {"upscale_method": "model", "upscaler": "network"},
        {"upscale_method": "model", "upscaler": "network", "upscale": 2, "files": {"network": {}}},
        {"upscale_method": 3},
        {"upscale_method": "smooth"},
        {"upscaler": ""},
        {"source_mean": "yes"},
    ],
)
def test_a_damaged_record_is_refused(model, plain, tmp_path, change):
    files = {name: {"kind": "folder", "hash": "x"} for name in change.get("files", ())}
    record = {**read_recipe(tmp_path / "plain.npy"), "upscale": 4, **change, **({"files": files} if files else {})}
    write_video(repeated(plain), tmp_path / "bad.npy", 8, record)
    done = run("replay", tmp_path / "bad.npy")
    assert done.exit_code == 2 and "its record is damaged" in " ".join(done.output.split()), done.output


def test_many_prompts_go_on_and_tell_another_method(model, network, tmp_path):
    (tmp_path / "p.txt").write_text(f"{PROMPT}\na blue star moving up\n")
    many = ("--prompts", tmp_path / "p.txt", "--output-dir", tmp_path / "d", "--format", "npy")
    told = ("generate", *many, "--model", model)
    by_network = (*told, "--upscale", 4, "--upscaler", network)
    assert "2 videos written" in ok(*by_network)
    first, second = (np.load(tmp_path / "d" / f"000{i}.npy") for i in (0, 1))
    assert first.shape == second.shape == (4, 64, 64, 3) and not np.array_equal(first, second)
    assert "2 were already there" in ok(*by_network)
    done = run(*told, "--upscale", 4)
    assert done.exit_code == 2 and "upscale_method is model, would be not there" in " ".join(done.output.split())


def test_a_video_that_a_network_enlarged_is_gone_on_with_by_its_means(model, network, plain, tmp_path):
    made = ("generate", PROMPT, "--model", model, "--upscale", 4, "-o")
    ok(*made, tmp_path / "smooth.npy", "--upscaler", network)
    ok(*made, tmp_path / "coarse.npy")
    smooth = np.load(tmp_path / "smooth.npy")
    means = (smooth.reshape(4, 16, 4, 16, 4, 3).mean((2, 4)) + 0.5).astype(np.uint8)
    for name, wanted in (("smooth", means), ("coarse", plain)):
        out = tmp_path / f"more-{name}.npy"
        ok("extend", tmp_path / f"{name}.npy", "-o", out, "--model", model, "--add-frames", 2, "--steps", 2)
        assert np.array_equal(np.load(out)[:4], wanted)
        assert read_recipe(out).get("source_mean", False) is (name == "smooth")
        assert "the same" in ok("replay", out)
    # a record from before there was a choice: the middle of each square, whatever the source looks like
    from muybridge.making.replay import replay

    record = read_recipe(tmp_path / "more-smooth.npy")
    middle = smooth[:, 2::4, 2::4]
    from muybridge.making.record import frames_hash

    old = {k: v for k, v in record.items() if k != "source_mean"} | {"source_sha256": frames_hash(middle)}
    assert np.array_equal(replay(old, read_video, "old").frames[:4], middle)
