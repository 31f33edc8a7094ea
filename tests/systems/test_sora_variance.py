"""T14 of spec 04 in the system sora: the bound in its loss, and the variance that a saved model says, in its steps."""

import math

import numpy as np
import pytest
import torch

from muybridge.diffusion.guidance import classifier_free
from muybridge.diffusion.learned_variance import variational_bits
from muybridge.diffusion.noise import Noise
from muybridge.diffusion.samplers import sample_ancestral
from muybridge.errors import UserError
from muybridge.learning.draws import Draws
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.continuation import extend_video
from muybridge.systems.sora.masks import given_frames as masks_of
from muybridge.systems.vdm.training import VDM
from tests.conftest import randomise
from tests.systems.test_sora import PROMPT, SAMPLING, autoencoder, batch_of, system_of

__all__ = ["autoencoder"]  # a fixture


@pytest.mark.parametrize("masks", [0.0, 1.0])
def test_t14_the_bound_is_added_and_teaches_the_variance_alone(autoencoder, masks):
    """The whole loss by hand, at a weight; a mean's gradient is the plain error's."""
    told = {"prediction": "v_prediction", "masks": masks, "base_positions": 30}
    system = system_of(autoencoder, {"learned_variance": True}, vlb_weight=0.25, **told)
    plain = system_of(autoencoder, **told)
    model, batch = system.build(), batch_of([torch.randn(4, 3, 4, 2), torch.randn(4, 1, 2, 2), torch.randn(4, 5, 2, 4)])
    randomise(model, 0.1)
    assert model(torch.randn(1, 4, 3, 4, 4), torch.zeros(1)).shape == (1, 8, 3, 4, 4)
    said = []
    out = system.losses(model, batch)
    system.losses(lambda z, lam, text: said.extend(model(z, lam, text)) or said, batch)
    with_mean = plain.losses(lambda z, lam, text: [s[:4] for s in said], batch)
    assert torch.allclose(out.error, with_mean.error, atol=1e-6)
    table, uniform = system.process.table.table, Draws(batch).times()
    for i, x in enumerate(batch.clips):
        generators = Draws(batch)
        generators.times(), generators.shares()
        free = ~masks_of(x.shape[1], masks, generators.generators[i])
        noise = torch.randn(x.shape, generator=generators.generators[i])
        index = int(uniform[i] * len(table))
        levels = [table[min(index + 1, 999)], table[index], table[index - 1] if index else torch.tensor(math.inf)]
        levels = [lam - math.log(x[0].numel() / 30) for lam in levels]
        alpha, sigma = levels[1].sigmoid().sqrt().float(), (-levels[1]).sigmoid().sqrt().float()
        z = (alpha * x + sigma * noise)[None, :, free]
        v, o = said[i].detach().chunk(2)
        bits = variational_bits(x[None, :, free], z, alpha * z - sigma * v[None, :, free], o[None, :, free], levels)
        assert out.weighted[i].detach() == pytest.approx(float(out.error[i] + 0.25 * bits), rel=1e-4)
    out.weighted.mean().backward()
    head = model.patch_out.weight.grad.unflatten(0, (1, 8))
    assert float(head[0, 4:].abs().max()) > 0
    model.zero_grad()
    half = system_of(autoencoder, {"learned_variance": True}, vlb_weight=0.0, **told)
    half.losses(model, batch).weighted.mean().backward()
    assert torch.allclose(head[0, :4], model.patch_out.weight.grad.unflatten(0, (1, 8))[0, :4], atol=1e-7)


def test_t14_what_the_network_says_reaches_the_steps(autoencoder, tmp_path):
    """A saved model is drawn with its own variance by ancestral steps, and refuses noise of another size."""
    torch.manual_seed(0)
    system = system_of(autoencoder, {"learned_variance": True}, prediction="v_prediction")
    model = randomise(system.build(), 0.05)
    system.save(model, tmp_path, SAMPLING)
    pipeline = load_pipeline(str(tmp_path), "cpu")
    assert pipeline.learns_variance and not system_of(autoencoder).build().config.learned_variance
    size = pipeline.sample_shape(pipeline.settings())

    def drawn(o, **options):
        with torch.no_grad():  # the variance's half says one value everywhere
            pipeline.network.patch_out.weight[4:] = 0
            pipeline.network.patch_out.bias[4:] = o
        told = {"guidance_scale": 2.0, "num_inference_steps": 4, "output": "latents", **options}
        return pipeline(PROMPT, seed=3, **told).samples

    condition = pipeline.condition([PROMPT], pipeline.settings())
    branches = pipeline.closed(condition), pipeline.closed(pipeline.null(condition))
    noise = Noise([3])
    lams = pipeline.levels(4, "ancestral")
    for o, gamma in ((-1.0, 0.0), (1.0, 1.0), (0.2, 0.6)):
        got = drawn(o, sampler="ancestral")
        by_hand = list(sample_ancestral(classifier_free(*branches, 2.0), noise(size, "start"), lams, noise, gamma))
        assert torch.allclose(got, by_hand[-1].z, atol=1e-4), o
    assert not torch.allclose(drawn(-1.0, sampler="ancestral"), drawn(1.0, sampler="ancestral"), atol=1e-2)
    assert torch.equal(drawn(-1.0, sampler="ddim"), drawn(1.0, sampler="ddim"))  # adds no noise
    for wrong, said in (
        ({"sampler": "ancestral", "gamma": 0.7}, "gamma 0.7: this network learned"),
        ({"sampler": "ddim", "eta": 0.5}, "sampler ddim: this network learned how much noise"),
        ({"sampler": "dpmpp_2m_sde"}, "sampler dpmpp_2m_sde: this network learned"),
    ):
        with pytest.raises(UserError, match=said):
            pipeline(PROMPT, **wrong)
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    for method in ("trained", "reconstruction", "replacement"):
        assert len(extend_video(pipeline, frames, PROMPT, 4, method=method)) == 13


def test_t14_a_continuous_schedule_has_no_step_to_learn_it_on():
    model = {"type": "transformer", "layers": 1, "width": 48, "heads": 4, "learned_variance": True}
    with pytest.raises(UserError, match="model.learned_variance: vdm trains on a continuous schedule"):
        VDM(model, {}, None)
