"""A ControlNet trains beside a frozen picture model (spec 14), and is kept as diffusers keeps it."""

from dataclasses import replace

import torch
from diffusers import ControlNetModel

from muybridge.models.control import advised_guidance, open_control_net
from muybridge.training.trainer import Trainer
from tests.systems.conftest import SAMPLING
from tests.systems.test_latent import recipe_of


def test_a_control_net_trains_beside_a_frozen_picture_model(tmp_path, picture_model):

    recipe = recipe_of("edges", "control_net", {"image": str(picture_model), "structure": "edges"}, {"num_frames": 1})
    recipe = replace(recipe, sampling={**SAMPLING, "guidance_scale": 1.5})
    trainer = Trainer(recipe, tmp_path / "run")
    before = trainer.system.build().state_dict()
    folder = trainer.run()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("image."))
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("control."))
    assert trainer.counts["trainable"] == sum(v.numel() for n, v in before.items() if n.startswith("control."))
    ours, theirs = open_control_net(folder), ControlNetModel.from_pretrained(str(folder), local_files_only=True)
    assert all(torch.equal(v, theirs.state_dict()[n]) for n, v in ours.state_dict().items())
    assert advised_guidance(folder) == 1.5 and advised_guidance(tmp_path) is None
