"""Structure estimators: what each finds on scenes whose truth is known, one scale a clip, and the cache."""

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from muybridge.data.world import WorldConfig, WorldSource
from muybridge.errors import UserError
from muybridge.models.vision import structure
from muybridge.models.vision.structure import control_pictures, estimator_named, per_clip, structure_of
from muybridge.models.weights.found import ENCODER_WEIGHTS as WEIGHTS
from tests.conftest import randomise


@pytest.fixture(scope="module")
def scene():
    config = WorldConfig(
        num_frames=3, num_clips=8, two_things=0.0, sizes=("large",), backgrounds=("dark",), pans=("none",)
    )
    return WorldSource(config).scene(0)[0]


def within_a_pixel(found, true):
    wide = torch.nn.functional.max_pool2d(torch.from_numpy(true)[:, None].float(), 5, 1, 2)[:, 0].numpy() > 0.5
    return found[wide].sum() / max(1, found.sum())


def test_outlines_are_where_the_scene_has_them(scene):
    found = estimator_named("edges")(scene.frames())
    assert found.shape == (3, 64, 64) and set(np.unique(found)) == {0.0, 1.0}
    assert within_a_pixel(found, scene.edges()) > 0.9


def test_soft_edges_are_strongest_at_outlines(scene):
    soft = estimator_named("soft_edges")(scene.frames())
    assert soft.shape == (3, 64, 64) and soft.min() >= 0 and soft.max() <= 1
    edges = scene.edges()
    assert soft[edges].mean() > 4 * soft[~edges].mean()


def test_foreground_is_the_thing(scene):
    found = estimator_named("foreground")(scene.frames()) > 0.5
    true = scene.labels() >= 0
    assert (found & true).sum() / (found | true).sum() > 0.6


def test_depth_tells_near_from_far_and_has_one_scale_a_clip(scene):
    found = estimator_named("depth")(scene.frames())
    assert found.min() == 0 and found.max() == 1
    thing = scene.labels() >= 0
    assert found[thing].mean() > found[~thing].mean() + 0.3
    clip = np.stack([np.full((4, 4), v, np.float32) for v in (1.0, 2.0, 3.0)])
    assert np.array_equal(per_clip(clip)[:, 0, 0], [0, 0.5, 1])
    assert np.array_equal(per_clip(clip[:1]), np.zeros((1, 4, 4)))


def test_a_users_depth_model_opens(tmp_path):
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
        reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    randomise(DPTForDepthEstimation(config), 0.2).save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    depth = structure.Depth(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3), dtype=np.uint8)
    found = depth(frames)
    assert found.shape == (2, 20, 30) and found.max() == 1
    weights = load_file(tmp_path / WEIGHTS)
    published = {k: v for k, v in weights.items() if "fusion_stage.layers.0.residual_layer1." not in k}
    assert len(published) < len(weights)
    save_file(published, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert np.array_equal(structure.Depth(tmp_path)(frames), found)  # what published files lack is never read
    save_file({k: v for k, v in weights.items() if "head.0.weight" not in k}, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match="missing from its weights, the first is head"):
        structure.Depth(tmp_path)
    assert depth.identity != estimator_named("depth").identity
    with pytest.raises(UserError, match=r"config\.json"):
        structure.Depth(tmp_path / "nowhere")


def test_results_are_kept_by_frames_and_estimator(tmp_path, scene):
    frames, calls = scene.frames(), []

    class Counted:
        identity = "counted/1"

        def __call__(self, frames):
            calls.append(len(frames))
            return frames[..., 0].astype(np.float32) / 255

    first = structure_of(Counted(), frames, tmp_path)
    assert np.array_equal(structure_of(Counted(), frames, tmp_path), first) and calls == [3]
    structure_of(Counted(), frames[:2], tmp_path)
    other = Counted()
    other.identity = "counted/2"
    structure_of(other, frames, tmp_path)
    assert calls == [3, 2, 3] and len(list(tmp_path.iterdir())) == 3


def test_control_pictures_and_names(scene):
    grey = control_pictures(np.zeros((2, 4, 5), np.float32))
    colour = control_pictures(np.ones((2, 4, 5, 3), np.float32))
    assert grey.shape == colour.shape == (2, 3, 4, 5) and colour.min() == 1
    with pytest.raises(UserError, match="did you mean|expected|Known|known"):
        estimator_named("edge")


@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is not None, reason="mediapipe is installed")
def test_poses_say_what_they_need():
    with pytest.raises(UserError, match="mediapipe==0.10.14"):
        structure.Pose()
