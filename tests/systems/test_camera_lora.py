"""A camera's LoRA: the clips really move, adapters start as nothing, they alone train, and merged they give what they
gave while training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from muybridge.data.camera import CameraConfig, moved
from muybridge.data.registry import make_source
from muybridge.errors import UserError
from muybridge.library.catalogue import LORA, find_lora, find_model
from muybridge.models.weights.lora import apply_lora
from muybridge.models.weights.opening import open_network
from muybridge.nn.low_rank import add_adapters, is_adapter
from muybridge.opening.sampling import load_pipeline
from muybridge.systems.stable_video.camera_lora import ADAPTED
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer


def square(frames=5, side=32):
    clip = np.full((frames, side, side, 3), 255, np.uint8)
    clip[:, 12:20, 12:20] = (200, 20, 20)
    return clip


def centre(frame):
    y, x = np.nonzero(frame[..., 1] < 128)
    return x.mean(), y.mean(), len(x)


@pytest.mark.parametrize(
    ("move", "dx", "dy", "grows"),
    [("left", 1, 0, 0), ("right", -1, 0, 0), ("up", 0, 1, 0), ("down", 0, -1, 0), ("in", 0, 0, 1), ("out", 0, 0, -1)],
)
def test_the_picture_goes_the_other_way(move, dx, dy, grows):
    seen = moved(square(), CameraConfig(move=move, amount=0.25))
    assert np.array_equal(seen[0], square()[0])
    (x0, y0, area0), (x1, y1, area1) = centre(seen[0]), centre(seen[-1])
    assert x1 - x0 == pytest.approx(8 * dx, abs=0.6) and y1 - y0 == pytest.approx(8 * dy, abs=0.6)
    assert np.sign(area1 - area0) * (abs(area1 - area0) > 8) == grows
    steps = np.diff([centre(f)[0] for f in seen])
    assert np.allclose(steps, 2 * dx, atol=0.6)


def test_the_source_and_its_errors():
    world = {"source": "world", "height": 16, "width": 16, "num_frames": 3, "num_clips": 4}
    source = make_source({"source": "camera", "move": "left", "of": world})
    assert len(source) == 4 and source.captions() == make_source(world).captions()
    assert not np.array_equal(source.clip(1).frames[2], make_source(world).clip(1).frames[2])
    assert np.array_equal(
        make_source({"source": "camera", "of": world}).clip(1).frames, make_source(world).clip(1).frames
    )
    for wrong, words in (({"move": "lft"}, "left"), ({"amount": 2.0}, "amount"), ({}, "data.of")):
        with pytest.raises(UserError, match=words):
            make_source({"source": "camera", **({"of": world} if wrong else {}), **wrong})


@pytest.fixture(scope="module")
def network():
    from muybridge.models.inflated_unet import InflatedUNet

    return open_network(InflatedUNet, find_model("emoji-animate") / "network")


def inputs(network):
    channels = network.image.config.in_channels
    scalars = {n: torch.tensor([5.0]) for n in ("fps", "motion_bucket", "noise_augmentation")}
    width = network.image.config.cross_attention_dim
    return torch.randn(1, channels, 3, 8, 8), torch.tensor([0.3]), torch.randn(1, 1, width), scalars


@pytest.mark.parametrize("layers", ADAPTED)
def test_adapters_start_as_nothing_and_merge_to_the_same(network, tmp_path, layers):
    import copy

    from safetensors.torch import save_file

    given = inputs(network)
    adapted = copy.deepcopy(network)
    names = add_adapters(adapted, 4, ADAPTED[layers])
    assert names and (layers == "all") == any(not n.startswith("temporal.") for n in names)
    with torch.no_grad():
        before = network(*given).sample
        assert torch.allclose(adapted(*given).sample, before, atol=1e-6)
        for name, p in adapted.named_parameters():
            if is_adapter(name):
                p.copy_(torch.randn(p.shape) * 0.1)
        trained = adapted(*given).sample
    assert (trained - before).abs().max() > 1e-3
    assert {n for n, p in adapted.named_parameters() if p.requires_grad} == {
        n for n, _ in adapted.named_parameters() if is_adapter(n)
    }
    save_file({n: p.detach() for n, p in adapted.named_parameters() if is_adapter(n)}, tmp_path / LORA)
    merged = copy.deepcopy(network)
    apply_lora(merged, tmp_path / LORA)
    with torch.no_grad():
        assert torch.allclose(merged(*given).sample, trained, atol=1e-4)
    apply_lora(merged, tmp_path / LORA, -1.0)
    with torch.no_grad():
        assert torch.allclose(merged(*given).sample, before, atol=1e-4)


@pytest.mark.slow
def test_only_adapters_train_and_the_file_is_taken_by_animate(tmp_path):
    world = {"source": "world", "height": 64, "width": 64, "num_frames": 4, "num_clips": 6}
    recipe = Recipe(
        name="camera", system="camera_lora", seed=1, model={"base": "emoji-animate", "rank": 2},
        data={"source": "camera", "move": "left", "of": world},
        training=TrainingConfig(steps=2, batch_size=2, validate_every=2, validation_clips=2, sample_every=0, threads=2),
        sampling={"num_frames": 4, "height": 64, "width": 64, "num_inference_steps": 2},
    )  # fmt: skip
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.prepare()
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not is_adapter(n)}
    folder = Trainer(recipe, tmp_path / "run").run()
    weights = load_file(folder / LORA)
    assert (
        weights
        and all(is_adapter(n) for n in weights)
        and any(v.abs().max() > 0 for n, v in weights.items() if "lora_B" in n)
    )
    for _ in range(2):
        trainer.step(0)
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen)
    pipeline = load_pipeline("emoji-animate")
    assert find_lora(str(folder)) == folder / LORA
    entry = pipeline.use_lora(find_lora(str(folder)), 0.5)
    assert entry["scale"] == 0.5
    assert json.loads((folder / "config.json").read_text()) == {
        "base": "emoji-animate", "rank": 2, "layers": "temporal_attention",
    }  # fmt: skip
    with pytest.raises(UserError, match="no LoRA file"):
        find_lora("camera-lft")
    with pytest.raises(UserError, match="base"):
        Trainer(replace(recipe, model={"rank": 2}), tmp_path / "x")
    with pytest.raises(UserError, match="layers"):
        Trainer(replace(recipe, model={"base": "emoji-animate", "layers": "al"}), tmp_path / "x")
