"""Commands on users' weights in half precision: at rest or widened once, every frame is the same."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from benchmarks import weights
from muybridge.cli.main import app
from muybridge.data.video_io import read_video
from muybridge.errors import UserError
from muybridge.library.catalogue import model_hash
from muybridge.models.vision import control
from muybridge.nn import resting
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.style import interpolate_weights

CASES = {
    "Stable Diffusion XL folder": ("generate", "restyle"),
    "1.5 with a LoRA": ("generate", "control"),
    "1.5 with a textual inversion": ("zero",),
    "1.5 with motion modules and a MotionLoRA": ("generate",),
    "1.5 as a single file": ("generate",),
    "latent consistency folder": ("generate",),
    "InstructPix2Pix folder": ("instruct",),
    "Stable Video folder": ("animate",),
}


def halve(place):
    for file in place.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            told = opened.metadata()
        save_file({n: v.half() if v.is_floating_point() else v for n, v in load_file(file).items()}, file, told)


@pytest.mark.parametrize("name", CASES)
def test_every_frame_is_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    found = next(kind for kind in weights.KINDS if kind.name == name).make(tmp_path)
    weights._beside(found, tmp_path)
    halve(tmp_path)
    calls = []
    forward = resting.Resting.forward
    monkeypatch.setattr(
        resting.Resting, "forward", lambda layer, *given: (calls.append(layer), forward(layer, *given))[1]
    )
    monkeypatch.setattr(resting, "FEWEST", 256)
    for command in CASES[name]:
        made = {}
        for least in (1, 10**12):
            monkeypatch.setattr(resting, "LARGE", least)
            calls.clear()
            done = CliRunner().invoke(app, [str(a) for a in weights.arguments_of(command, found, tmp_path)])
            assert done.exit_code == 0, (done.output, done.exception)
            assert ("widened a layer at a time" in done.output) == (least == 1), done.output
            assert (len({id(layer) for layer in calls}) > 20) == (least == 1)
            made[least] = read_video(tmp_path / f"{command}.npy").frames
            (tmp_path / f"{command}.npy").unlink()
        assert np.array_equal(*made.values()), command


def test_memory_fast_widens_once(tmp_path, monkeypatch):
    monkeypatch.setattr(resting, "FEWEST", 256)
    monkeypatch.setattr(resting, "LARGE", 1)
    found, xl = weights._stable_video(tmp_path / "svd"), weights._xl(tmp_path / "xl")
    halve(tmp_path)

    def waiting(**how):
        opened = load_pipeline(str(found["model"]), "cpu", **how)
        return [resting.is_at_rest(opened.network), resting.is_at_rest(opened.scorer)]

    assert waiting() == waiting(memory="low") == [True, True]
    assert waiting(memory="fast") == waiting(compiled=True) == [False, False]
    for memory in ("balanced", "fast"):
        encoders = load_pipeline(str(xl["model"]), "cpu", memory=memory).encoder().models
        assert [resting.is_at_rest(model) for model in encoders] == [memory == "balanced"] * 2


def test_a_control_net_waits_too(tmp_path, monkeypatch):
    monkeypatch.setattr(resting, "FEWEST", 256)
    monkeypatch.setattr(resting, "LARGE", 1)
    found, opened = weights._stable_diffusion(tmp_path), []
    weights._beside(found, tmp_path)
    halve(tmp_path)
    of = control.open_control_net
    monkeypatch.setattr(control, "open_control_net", lambda *given: (opened.append(of(*given)), opened[-1])[1])
    for memory in ("balanced", "fast"):
        told = [*weights.arguments_of("control", found, tmp_path), "--memory", memory]
        done = CliRunner().invoke(app, [str(a) for a in told])
        assert done.exit_code == 0, (done.output, done.exception)
        (tmp_path / "control.npy").unlink()
    assert [resting.is_at_rest(net) for net in opened] == [True, False]


@torch.no_grad()
def test_a_style_changes_weights_at_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(resting, "FEWEST", 256)
    found = weights._stable_diffusion(tmp_path)["model"]
    halve(tmp_path)
    made = []
    for least in (1, 10**12):
        monkeypatch.setattr(resting, "LARGE", least)
        network = load_pipeline(str(found), "cpu").network
        assert resting.is_at_rest(network) == (least == 1)
        other = load_pipeline(str(found), "cpu", memory="fast").network
        other.load_state_dict({name: value + 1e-5 for name, value in other.state_dict().items()})
        interpolate_weights(network, other, 0.5)
        made.append(network.state_dict())
    assert all(torch.equal(made[0][name], value) for name, value in made[1].items())


ENCODERS = {
    "text_encoder": (weights._stable_diffusion, "generate"),
    "text_encoder_2": (weights._xl, "generate"),
    "image_encoder": (weights._stable_video, "animate"),
}


@pytest.mark.parametrize("part", ENCODERS)
@pytest.mark.parametrize("how", ["a tensor is missing", "another shape", "no tensors"])
def test_an_encoder_that_is_not_whole_is_refused(part, how, tmp_path, monkeypatch):
    """It was filled at random: another video at every call."""
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    make, command = ENCODERS[part]
    found = make(tmp_path)
    weights._beside(found, tmp_path)
    file = found["model"] / part / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if n.endswith("mlp.fc1.weight"))
    value = tensors.pop(name)
    if how == "another shape":
        tensors[name] = value[:, :-1].contiguous()
    save_file({} if how == "no tensors" else tensors, file, {"format": "pt"})
    done = CliRunner().invoke(app, [str(a) for a in weights.arguments_of(command, found, tmp_path)])
    assert done.exit_code == 2, (done.output, done.exception)
    assert part in done.output and not (tmp_path / f"{command}.npy").exists()
    if how == "a tensor is missing":
        assert "mlp.fc1.weight" in done.output


def test_an_autoencoder_without_a_tensor_is_refused(tmp_path):
    model = weights._stable_diffusion(tmp_path)["model"]
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["decoder.mid_block.attentions.0.group_norm.bias"]
    save_file(tensors, file)
    with pytest.raises(UserError, match="1 tensors are missing.*group_norm.bias"):
        load_pipeline(str(model), "cpu")


@pytest.mark.parametrize("kind", [torch.float16, torch.float8_e4m3fn])
def test_tensors_of_mixed_types_keep_what_they_hold(kind, tmp_path, monkeypatch):
    """The largest tensor in half precision or 8 bits, the others in float32."""
    monkeypatch.setattr(resting, "FEWEST", 256)
    monkeypatch.setattr(resting, "LARGE", 1)
    model = weights._stable_diffusion(tmp_path)["model"]
    for file in (model / "text_encoder" / "model.safetensors", model / "unet" / "diffusion_pytorch_model.safetensors"):
        tensors = load_file(file)
        largest = max(tensors, key=lambda n: tensors[n].numel())
        tensors[largest] = tensors[largest].to(kind)
        save_file(tensors, file, {"format": "pt"})
    opened = load_pipeline(str(model), "cpu")
    for network, file in (
        (opened.network, model / "unet" / "diffusion_pytorch_model.safetensors"),
        (opened.encoder().model, model / "text_encoder" / "model.safetensors"),
    ):
        own, held = network.state_dict(), load_file(file)
        plain = {n.removeprefix("text_model."): v for n, v in held.items()}
        for name, value in own.items():
            if value.is_floating_point():
                assert torch.equal(value.float(), plain[name.removeprefix("text_model.")].float()), name


def test_a_models_hash_is_read_in_pieces(tmp_path):
    import tracemalloc

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(bytes(50_000_000))
    tracemalloc.start()
    found = model_hash(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = b"a.safetensors" + bytes(50_000_000) + b"config.json" + b"{}"
    assert found == hashlib.sha256(whole).hexdigest()[:16] and peak < 20_000_000
