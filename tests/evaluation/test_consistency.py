"""Consistency of frames: along an exact flow, and by features."""

import numpy as np
import torch

from muybridge.data.world import WorldConfig, WorldSource
from muybridge.evaluation.consistency import frame_consistency, warped_error


def test_a_drawn_scene_is_consistent_with_its_own_flow_and_not_with_another():
    scene = WorldSource(WorldConfig(num_frames=6, num_clips=9, two_things=0.0, motions=("right",))).scene(3)[0]
    frames, flow = scene.frames(), scene.flow()
    own = warped_error(frames, flow)
    noisy = np.random.default_rng(0).integers(0, 40, frames.shape, dtype=np.uint8) + frames // 2
    assert own < warped_error(frames, -4 * flow) / 2
    assert own < warped_error(noisy, flow) / 2


def test_equal_frames_are_wholly_consistent():
    class Mean:
        def embed_pictures(self, pictures):
            return torch.nn.functional.normalize(pictures.mean((2, 3)) + 1e-3, dim=1)

    frames = np.full((4, 8, 8, 3), 200, np.uint8)
    assert frame_consistency(Mean(), frames) > 0.999
    frames[::2] = 0
    assert frame_consistency(Mean(), frames) < 0
