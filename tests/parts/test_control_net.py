"""A ControlNet trains beside a frozen picture model (spec 14), and is kept as diffusers keeps it."""

from dataclasses import replace

import torch
from diffusers import ControlNetModel

from muybridge.library.catalogue import sampling_of
from muybridge.models.vision.control import open_control_net
from tests.systems.test_latent import recipe_of, trained_beside_a_frozen_image
from tests.tiny_models import SAMPLING


def test_a_control_net_trains_beside_a_frozen_picture_model(tmp_path, picture_model):
    recipe = recipe_of("edges", "control_net", {"image": str(picture_model), "structure": "edges"}, {"num_frames": 1})
    recipe = replace(recipe, sampling={**SAMPLING, "guidance_scale": 1.5})
    folder = trained_beside_a_frozen_image(recipe, tmp_path / "run", "control.")
    ours, theirs = open_control_net(folder), ControlNetModel.from_pretrained(str(folder), local_files_only=True)
    assert all(torch.equal(v, theirs.state_dict()[n]) for n, v in ours.state_dict().items())
    assert sampling_of(folder).get("guidance_scale") == 1.5 and sampling_of(tmp_path).get("guidance_scale") is None
