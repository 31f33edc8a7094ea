"""The generated world: determinism, exact ground truth, held-out triples, words."""

import numpy as np
import pytest

from muybridge.data.world import Scene, Thing, WorldConfig, WorldSource, held_out_triples
from muybridge.data.world.captions import MOTIONS, describe, name_thing
from muybridge.data.world.scene import Background
from muybridge.data.world.shapes import COLOURS, SHAPES
from muybridge.data.world.truth import BACKGROUND_DEPTH
from muybridge.errors import UserError


def source(**changes):
    return WorldSource(WorldConfig(**{"height": 32, "width": 40, "num_frames": 6, "num_clips": 60, **changes}))


def one_thing(
    shape="circle", centres=((10, 12), (15, 12)), radii=(6, 6), angles=(0, 0), camera=((0, 0), (0, 0)), **more
):
    thing = Thing(shape, (220, 40, 40), np.array(centres, float), np.array(radii, float), np.array(angles, float))
    return Scene(
        32, 40, 2, (thing, *more.get("others", ())), more.get("background", Background()), np.array(camera, float)
    )


def test_a_clip_is_the_same_every_time_whatever_was_read_before():
    a, b = source(), source()
    for i in range(10):
        b.clip(i)
    assert np.array_equal(a.clip(7).frames, b.clip(7).frames)
    assert a.clip(7).frames.shape == (6, 32, 40, 3) and a.clip(7).frames.dtype == np.uint8
    assert np.array_equal(a.still(7, 3).frames[0], a.clip(7).frames[3])
    assert a.captions()[7] == a.clip(7).caption
    assert not np.array_equal(source(seed=1).clip(7).frames, a.clip(7).frames)


def test_the_plainest_caption():
    assert describe(name_thing("red", "circle", "medium"), "left") == "a red circle moving left"
    assert name_thing("orange", "star", "large") == "a large orange star"
    assert name_thing("orange", "star", "medium") == "an orange star"


def test_every_phrasing_names_what_is_there():
    clips = source(num_clips=200, two_things=0.3)
    for i in range(200):
        scene, caption = clips.scene(i)
        for thing in scene.things:
            assert thing.shape in caption
        assert not caption.startswith(" ") and "  " not in caption


def test_a_caption_without_background_has_a_plain_dark_one():
    clips = source(num_clips=200)
    for i in range(200):
        scene, caption = clips.scene(i)
        if "background" not in caption:
            assert scene.background.kind == "plain" and max(scene.background.colour) < 40


@pytest.mark.parametrize("motion", list(MOTIONS))
def test_things_do_what_the_caption_says(motion):
    clips = source(motions=(motion,), two_things=0.0, pans=("none",), held_out=0.0, num_clips=15, num_frames=12)
    for i in range(15):
        thing = clips.scene(i)[0].things[0]
        drift = thing.centres[-1] - thing.centres[0]
        if motion in ("left", "right"):
            assert np.sign(drift[0]) == (1 if motion == "right" else -1) and drift[1] == 0
        elif motion in ("up", "down"):
            assert np.sign(drift[1]) == (1 if motion == "down" else -1) and drift[0] == 0
        elif motion == "growing":
            assert thing.radii[-1] > 2 * thing.radii[0] - thing.radii[-1]
        elif motion == "spinning":
            assert abs(thing.angles[-1]) > 2 and not drift.any()
        elif motion == "still":
            assert np.array_equal(np.ptp(thing.centres, axis=0), [0, 0])
        else:
            assert np.ptp(thing.centres, axis=0).max() > 3
        low, high = thing.centres - thing.radii[:, None], thing.centres + thing.radii[:, None]
        assert low.min() > -2 and (high < [42, 34]).all()  # it stays in the picture


def test_flow_of_a_shift_a_turn_a_growth_and_a_pan():
    scene = one_thing()
    there = scene.labels()[0] == 0
    assert np.allclose(scene.flow()[0][there], [5, 0]) and np.allclose(scene.flow()[0][~there], 0)
    turned = one_thing("square", centres=((20, 16), (20, 16)), angles=(0, np.pi / 2))
    assert np.allclose(turned.flow()[0][16, 24], [-4, 4], atol=1e-9)  # clockwise on screen
    grown = one_thing(centres=((20, 16), (20, 16)), radii=(4, 8))
    assert np.allclose(grown.flow()[0][16, 22], [2, 0], atol=1e-9)
    panned = one_thing(centres=((10, 12), (10, 12)), camera=((0, 0), (3, -2)), background=Background("checks"))
    assert np.allclose(panned.flow(), [-3, 2])


@pytest.mark.parametrize("shape", list(SHAPES))
def test_flow_carries_each_frame_into_the_next(shape):
    """Warping frame 1 back by the flow gives frame 0 inside the thing, for every shape, under pan, turn and growth."""
    scene = one_thing(
        shape,
        ((14.3, 15.1), (18.7, 17.2)),
        (8, 9.5),
        (0.1, 0.6),
        camera=((0, 0), (1.5, 0.5)),
        background=Background("waves"),
    )
    masks, flow = scene.masks()[:, 0], scene.flow()[0]
    y, x = np.mgrid[0:32, 0:40]
    inside = masks[0] > 0.99
    x1, y1 = (x + flow[..., 0])[inside], (y + flow[..., 1])[inside]
    landed = scene.things[0].coverage(x1 + 1.5, y1 + 0.5, 1)
    assert inside.sum() > 30 and landed.min() > 0.5


def test_masks_depth_and_edges_agree():
    near = Thing("square", (45, 85, 230), np.full((2, 2), 16.0), np.full(2, 5.0), np.zeros(2), depth=1.0)
    far = Thing("circle", (220, 40, 40), np.full((2, 2), 16.0), np.full(2, 11.0), np.zeros(2), depth=2.0)
    scene = Scene(32, 32, 2, (far, near), Background(), np.zeros((2, 2)))
    labels, depth, masks = scene.labels(), scene.depth(), scene.masks()
    assert (
        labels[0, 16, 16] == 1
        and depth[0, 16, 16] == 1.0
        and depth[0, 16, 8] == 2.0
        and depth[0, 0, 0] == BACKGROUND_DEPTH
    )
    assert masks[0, 1, 16, 16] == 1 and masks[0, 0, 16, 16] == 0  # the far one is hidden there
    assert masks.sum(1).max() <= 1 + 1e-9
    edges = scene.edges()[0]
    assert edges.any() and not edges[16, 16]
    rows, columns = np.nonzero(edges)
    for r, c in zip(rows, columns, strict=True):
        right, below = labels[0, r, min(c + 1, 31)], labels[0, min(r + 1, 31), c]
        assert labels[0, r, c] != right or labels[0, r, c] != below


def test_held_out_triples_are_a_tenth_and_never_trained_on():
    clips = source(num_clips=400, sizes=("medium",))
    held = held_out_triples(clips.config)
    assert len(held) == round(0.1 * len(COLOURS) * len(SHAPES) * len(MOTIONS))
    names = {v: k for k, v in COLOURS.items()}

    def triples(source, i):
        scene, caption = source.scene(i)
        for thing in scene.things:
            colour = min(names, key=lambda c: sum(abs(a - b) for a, b in zip(c, thing.colour, strict=True)))
            for motion, phrases in MOTIONS.items():
                if any(p in caption for p in phrases):
                    yield names[colour], thing.shape, motion

    single = source(num_clips=400, two_things=0.0)
    for i in range(400):
        found = list(triples(single, i))
        assert not [t for t in found if t in held] or len(found) > 1
    other = source(num_clips=50, split="held_out", two_things=0.0)
    for i in range(50):
        assert any(t in held for t in triples(other, i))


def test_splits_differ():
    assert not np.array_equal(source().clip(0).frames, source(split="validation").clip(0).frames)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"colours": ("reed",)}, "did you mean 'red'"),
        ({"shapes": ()}, "at least 1 wanted, got 0; known: circle"),
        ({"split": "test"}, "split"),
        ({"height": 4}, "height must be in 8..8192"),
        ({"split": "held_out", "held_out": 0.0}, "keeps no triple out"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(UserError, match=message):
        source(**change)


def test_spread_draws_paths_to_the_middle():
    def centres(spread):
        source = WorldSource(WorldConfig(num_clips=60, two_things=0.0, motions=("left", "up"), seed=5, spread=spread))
        return np.array([source.scene(i)[0].things[0].centres.mean(0) for i in range(60)])

    wide, narrow, none = centres(1.0), centres(0.3), centres(0.0)
    assert np.allclose(none, 31.5, atol=1e-6)
    assert np.allclose(narrow - none, 0.3 * (wide - none), atol=1e-9)
    with pytest.raises(UserError, match="spread"):
        WorldConfig(spread=1.5)
