"""Features used again: the same numbers where nothing has changed, fewer layers computed, and nothing left behind."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from muybridge.diffusion.guidance import classifier_free
from muybridge.errors import UserError
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.transformer import SpacetimeTransformer
from muybridge.models.unet3d import UNet3DModel
from muybridge.nn.reuse import Reuse, reusing
from muybridge.opening.sampling import load_pipeline
from muybridge.pipelines.peak import _network_bytes
from tests.conftest import TINY_MODEL, randomise

PICTURE = dict(
    sample_size=8, block_out_channels=(32, 64), layers_per_block=2, attention_head_dim=8, cross_attention_dim=16,
    norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip
TRANSFORMER = {"in_channels": 3, "out_channels": 3, "layers": 4, "width": 48, "heads": 4, "patch_size": [1, 2, 2]}


def picture():
    network = randomise(UNet2DConditionModel(**PICTURE), 0.1)
    words = torch.randn(2, 3, 16)
    return network, lambda z: network(z[:, :, 0], torch.tensor([5.0]), words).sample, (2, 4, 1, 8, 8)


def inflated():
    network = InflatedUNet(PICTURE, {"type": "motion_modules", "heads": 4, "groups": 8})
    randomise(network, 0.1)
    words = torch.randn(1, 3, 16)
    return network, lambda z: network(z, torch.tensor([5.0]), words).sample, (1, 4, 3, 8, 8)


def unet3d():
    config = {k: v for k, v in TINY_MODEL.items() if not k.startswith("text_") and k != "type"}
    network = randomise(UNet3DModel(**config), 0.1)
    return network, lambda z: network(z, torch.tensor([1.0])), (1, 3, 4, 16, 16)


def transformer():
    network = randomise(SpacetimeTransformer(**TRANSFORMER), 0.1)
    return network, lambda z: network(z, torch.tensor([1.0])), (1, 3, 4, 16, 16)


NETWORKS = {"picture": picture, "inflated": inflated, "unet3d": unet3d, "transformer": transformer}


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_what_has_not_changed_is_what_is_computed(name):
    torch.manual_seed(0)
    network, call, shape = NETWORKS[name]()
    network.eval()
    z, other = torch.randn(shape), torch.randn(shape)
    plain, plain_other = call(z), call(other)
    leaves = [m for m in network.modules() if not list(m.children())]
    count = [0]
    hooks = [leaf.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1)) for leaf in leaves]
    with reusing(network, 0.5, 5) as reuse:  # steps 1 and 3
        first, second_branch = call(z), call(other)
        whole, count[0] = count[0] / 2, 0
        assert torch.equal(first, plain) and torch.equal(second_branch, plain_other)
        reuse.next_step()
        again, again_other = call(z), call(other)
        share, count[0] = count[0] / 2 / whole, 0
        assert torch.allclose(again, plain, atol=1e-5) and torch.allclose(again_other, plain_other, atol=1e-5)
        assert share < 0.75, share
        reuse.next_step()
        assert torch.equal(call(other), plain_other)  # computed anew, in the first branch's place
        reuse.next_step()
        near = call(0.9 * other)  # deep features of `other`, the rest of this
        assert not torch.allclose(near, plain_other, atol=1e-4)
    for hook in hooks:
        hook.remove()
    exact = call(0.9 * other)
    assert not torch.allclose(near, exact, atol=1e-6)  # something was used again
    assert torch.equal(call(z), plain)  # nothing is left behind


def test_the_share_of_steps_is_spread_evenly_between_the_first_and_the_last():
    for share, expected in ((0.5, "0101101010"), (0.25, "0010001000"), (0.9, "0111111110"), (0.0, "0000000000")):
        reuse, steps = Reuse(share, 10), ""
        for _ in range(10):
            steps += str(int(reuse.again))
            reuse.next_step()
        assert steps == expected, share
    assert not Reuse(0.9, 1).steps and not Reuse(0.9, 2).steps and Reuse(0.9, 3).steps == {1}


class Blocks(torch.nn.Module):
    """Adds a number to its input in a block that can be foreseen; the other two pass it on."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))
        for block in self.blocks:
            torch.nn.init.eye_(block.weight)
            torch.nn.init.zeros_(block.bias)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@torch.no_grad()
def test_features_go_on_by_half_of_their_last_change():
    network = Blocks()
    with reusing(network, 0.5, 9) as reuse:
        reuse.steps = {1, 3, 4}
        found = []
        for added in (2.0, 0.0, 6.0, 0.0, 0.0, 1.0):
            network.blocks[1].bias.fill_(added)
            found.append(float(network(torch.ones(1, 1))))
            reuse.next_step()
    # computed in steps 0, 2 and 5; step 1 has but one to go by, steps 3 and 4 are 1 and 2 steps of 2 further
    assert found == [3.0, 3.0, 7.0, 1 + 6 + 0.5 * 4 / 2, 1 + 6 + 0.5 * 4, 2.0]


@torch.no_grad()
def test_branches_keep_their_own_where_one_of_them_stops():
    """Two passes a step, guided in the first step alone: the second pass is not what the null branch left."""
    network, adds = Blocks(), {"condition": 2.0, "null": -5.0}

    def branch(name):
        def call(z, lam):
            network.blocks[1].bias.fill_(adds[name])
            return network(z)

        return call

    scale = lambda lam: torch.where(lam > 0, 3.0, 1.0)  # noqa: E731
    guided = classifier_free(branch("condition"), branch("null"), scale)
    z = torch.ones(1, 1)
    with reusing(network, 0.5, 4) as reuse:
        assert reuse.steps == {1, 2}
        first = [guided(z, torch.tensor([1.0])) for _ in range(2)]
        reuse.next_step()
        then = [guided(z, torch.tensor([-1.0])) for _ in range(2)]
    assert [float(x) for x in first] == [1 - 5 + 3 * 7] * 2 and [float(x) for x in then] == [3.0] * 2


def test_what_is_kept_does_not_hold_how_it_was_computed():
    network = Blocks()
    with reusing(network, 0.5, 4):
        network(torch.ones(1, 1, requires_grad=True))
        kept = network.blocks[1]._compiled_call_impl.computed
    assert [c.value.requires_grad for found in kept.values() for c in found] == [False]


@torch.no_grad()
def test_the_memory_of_what_is_kept_is_predicted():
    """Two branches, each of two steps."""
    network = randomise(SpacetimeTransformer(**{**TRANSFORMER, "layers": 12}), 0.1)
    z, lam = torch.randn(1, 3, 4, 16, 16), torch.tensor([1.0])
    predict = lambda z, lam, condition: network(z, lam)  # noqa: E731

    def counted(share):
        with reusing(network, share, 6):
            return _network_bytes(predict, z, lam, None, {}, 2)

    tokens, width = 4 * 8 * 8, TRANSFORMER["width"]
    assert counted(0.5) - counted(0.0) == pytest.approx(2 * 2 * 10 * tokens * width * 4, rel=0.15)


@torch.no_grad()
def test_another_batch_is_computed():
    network, call, shape = unet3d()
    network.eval()
    z = torch.randn(2, *shape[1:])
    both = network(z, torch.tensor([1.0, 1.0]))
    with reusing(network, 0.5, 3) as reuse:
        call(z[:1])
        reuse.next_step()
        assert torch.equal(network(z, torch.tensor([1.0, 1.0])), both)


def test_pipelines_take_it_and_others_refuse():
    video = load_pipeline("world-vdm", "cpu")
    how = {"num_frames": 2, "num_inference_steps": 4, "height": 32, "width": 32}
    plain, less = (video("a red circle", seed=0, reuse=r, **how).samples for r in (0.0, 0.5))
    assert not torch.equal(plain, less) and (plain - less).abs().mean() < 0.2
    assert torch.equal(plain, video("a red circle", seed=0, **how).samples)
    with pytest.raises(UserError, match="reuse: the features of a Linear"), reusing(torch.nn.Linear(1, 1), 0.5, 4):
        pass
