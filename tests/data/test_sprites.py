"""Composed scenes: exact flow, motions as said, held-out combinations, counts, relations, captions that are true."""

import re

import numpy as np
import pytest

from muybridge.data.packs import PackedClip, build_pack
from muybridge.data.registry import make_source
from muybridge.data.sources.sprites import SpritesConfig
from muybridge.data.sprites import filler
from muybridge.data.sprites.captions import conjugate
from muybridge.data.sprites.cutouts import recolour
from muybridge.data.sprites.names import COMMON, noun_of, plural_of, with_article
from muybridge.data.sprites.plan import combinations, is_held_out
from muybridge.data.sprites.source import SpritesSource
from muybridge.data.sprites.vocabulary import BACKGROUNDS, COLOURS, COUNTS, MOTIONS, PHRASES, RELATIONS, SIZES
from muybridge.errors import UserError

NAMES = {"fox": "3/34", "dog face": "3/34", "rocket": "5/56", "automobile": "5/54", "star": "5/59", "apple": "4/42",
         "scissors": "7/76", "wolf": "3/34", "owl": "3/35", "sailboat": "5/55", "man surfing": "1/28",
         "key": "7/77"}  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Cut-outs that are smooth everywhere inside, so that warping them can be checked; loops change their blue."""
    root = tmp_path_factory.mktemp("stores")
    y, x = np.mgrid[0:64, 0:64]
    for kind, count in (("stills", 1), ("animations", 16)):
        clips = []
        for n, (name, category) in enumerate(NAMES.items()):
            pixels = np.zeros((count, 64, 64, 4), np.uint8)
            pixels[..., 0], pixels[..., 1], pixels[..., 2] = (
                40 + 3 * x,
                40 + 3 * y,
                10 * np.arange(count)[:, None, None],
            )
            pixels[..., 3] = 255 * ((abs(x - 31.5) < 28) & (abs(y - 31.5) < 16 + n))
            style, origin = ("fluent", "@f/a@1") if kind == "animations" or n % 2 else ("noto", "@n/b@1")
            for s, o in {(style, origin), ("noto", "@n/b@1")} if kind == "stills" else {(style, origin)}:
                clips.append(
                    (
                        PackedClip(name, name, pixels.shape, 8.0, o, s, tags=("vehicle", "red"), category=category),
                        pixels,
                    )
                )
        build_pack(root / kind, clips, [], {}, {})
    return {"stills": str(root / "stills"), "animations": str(root / "animations"), "names_split": "all"}


def opened(stores, **changes):
    return SpritesSource(SpritesConfig(**{**stores, "num_clips": 400, **changes}))


def test_scenes_show_what_people_write_of(stores):
    everything = set(opened(stores, things="all").cutouts.concepts)
    common = set(opened(stores).cutouts.concepts)
    assert {"fox", "dog", "rocket", "car"} <= common and "man surfing" in everything - common
    assert opened(stores, names=("man surfing",)).cutouts.concepts == ["man surfing"]
    stray = {n for n in COMMON if noun_of(n) is not None and noun_of(n).concept != n}
    assert not stray  # a name that no concept has would never be shown


def one(stores, **changes):
    """Single things alone."""
    return opened(stores, **{"plain": 0.0, "counted": 0.0, "related": 0.0, "several": 0.0, "held_out": 0.0, **changes})


def test_a_clip_is_the_same_whatever_was_read_before(stores):
    a, b = opened(stores), opened(stores)
    for i in reversed(range(12)):
        b.clip(i)
    for i in range(12):
        assert np.array_equal(a.clip(i).frames, b.clip(i).frames) and a.clip(i).caption == b.clip(i).caption
    assert a.clip(3).frames.shape == (16, 64, 64, 3) and a.clip(3).frames.dtype == np.uint8
    assert np.array_equal(a.still(3, 5).frames[0], a.clip(3).frames[5])
    assert a.captions()[:12] == [a.describe(i)["caption"] for i in range(12)]
    assert not np.array_equal(opened(stores, seed=1).clip(3).frames, a.clip(3).frames)


@pytest.mark.parametrize("motion", [m for m in MOTIONS if m not in ("following", "still")])
def test_flow_carries_each_frame_into_the_next(stores, motion):
    """Inside a still's mask the colour at (x, y) is that of the next frame at (x, y) + flow."""
    source = one(stores, motions=(motion,), loops=0.0, recoloured=0.0, backgrounds=("plain",), height=96, width=96)
    checked = 0
    for i in range(4):
        scene = source.scene(i)[0]
        frames, flow, masks = scene.frames().astype(float), scene.flow(), scene.masks()[:, 0]
        y, x = np.mgrid[0:96, 0:96]
        for f in range(0, 15, 3):
            x1, y1 = x + flow[f, ..., 0], y + flow[f, ..., 1]
            ok = (masks[f] > 0.999) & (x1 > 1) & (x1 < 94) & (y1 > 1) & (y1 < 94)
            ix, iy = np.floor(x1[ok]).astype(int), np.floor(y1[ok]).astype(int)
            dx, dy = (x1[ok] - ix)[:, None], (y1[ok] - iy)[:, None]
            inside = np.minimum.reduce([masks[f + 1][iy + a, ix + b] for a in (0, 1) for b in (0, 1)]) > 0.999
            g = frames[f + 1]
            warped = (g[iy, ix] * (1 - dx) * (1 - dy) + g[iy, ix + 1] * dx * (1 - dy)
                      + g[iy + 1, ix] * (1 - dx) * dy + g[iy + 1, ix + 1] * dx * dy)  # fmt: skip
            error = np.abs(warped - frames[f][ok])[inside]
            checked += inside.sum()
            # a colour step is 3 levels a texel; halvings of the picture blur by less than a texel
            assert error.size == 0 or np.quantile(error, 0.95) < 9, (i, f, np.quantile(error, 0.95))
    assert checked > 300


@pytest.mark.parametrize("motion", [m for m in MOTIONS if m != "following"])
def test_things_do_what_is_said(stores, motion):
    source = one(stores, motions=(motion,))
    for i in range(25):
        (thing,), told = source.scene(i)[0].things, source.describe(i)
        assert told["things"][0]["motion"] == motion
        drift, spread = thing.centres[-1] - thing.centres[0], np.ptp(thing.centres, axis=0)
        if motion in ("left", "right"):
            assert np.sign(drift[0]) == (1 if motion == "right" else -1) and spread[1] == 0 and abs(drift[0]) > 12
            assert not told["leaves"] or not 0 < thing.centres[-1, 0] < 63
        elif motion in ("up", "down"):
            assert np.sign(drift[1]) == (1 if motion == "down" else -1) and spread[0] == 0 and abs(drift[1]) > 12
        elif motion in ("towards", "away"):
            ratio = thing.radii[-1] / thing.radii[0]
            assert ratio > 2 if motion == "towards" else ratio < 0.5
        elif motion == "spinning":
            assert abs(thing.angles[-1]) > 4 and not spread.any()
        elif motion == "swinging":
            assert 0.3 < np.abs(thing.angles).max() < 0.7 and thing.angles.min() < 0 < thing.angles.max()
        elif motion == "still":
            assert not spread.any() and np.ptp(thing.radii) == 0 and not thing.angles.any()
        elif motion in ("bouncing", "jumping"):
            assert spread[0] == 0 and spread[1] > 10
            assert motion == "bouncing" or abs(drift[1]) < 1e-9
        else:
            assert spread.min() > 8


def test_loops_keep_their_own_motion_and_stills_have_none(stores):
    loop = one(stores, motions=("still",), loops=1.0, recoloured=0.0, backgrounds=("white",)).clip(0).frames
    still = one(stores, motions=("still",), loops=0.0, backgrounds=("white",)).clip(0).frames
    assert len({f.tobytes() for f in loop}) == 16 and len({f.tobytes() for f in still}) == 1


def test_held_out_combinations_are_a_tenth_and_never_in_training(stores):
    train, held = opened(stores, plain=0.0, seed=3), opened(stores, split="held_out")
    for i in range(400):
        assert not train.describe(i)["held_out"]
        assert not [c for c in combinations(train.plan(i)) if is_held_out(c, 0.1)]
        told = held.describe(i)
        assert told["held_out"] and all(is_held_out(tuple(c), 0.1) for c in told["held_out"])
    share = np.mean([is_held_out(("motion", f"thing {i}", "left"), 0.1) for i in range(4000)])
    assert 0.085 < share < 0.115
    kinds = {c[0] for i in range(400) for c in held.describe(i)["held_out"]}
    assert kinds == {"motion", "background", "relation"}
    pictures = opened(stores, split="held_out", num_frames=1)
    assert not [c for i in range(100) for c in pictures.describe(i)["held_out"] if c[0] == "motion"]


def test_mirrored_relations_are_one_combination(stores):
    source = opened(stores, related=1.0, counted=0.0, several=0.0, plain=0.0)
    found = [c for i in range(200) for c in combinations(source.plan(i)) if c[0] == "relation"]
    assert len(found) == 200 and {c[2] for c in found} == {"above", "beside", "on", "behind", "riding"}
    assert all(c[1] <= c[3] for c in found if c[2] == "beside")


def test_counts(stores):
    source = one(stores, counted=1.0, recoloured=0.0, motions=("still", "left", "up", "spinning"), largest_count=5)
    seen = set()
    for i in range(60):
        scene, told = source.scene(i)[0], source.describe(i)
        count = told["things"][0]["count"]
        seen.add(count)
        assert len(scene.things) == count and f"{COUNTS[count]} " in told["plainest"]
        visible = scene.masks()[0].sum((1, 2))
        alone = np.array([scene.cover(k, 0).sum() for k in range(count)])
        assert np.allclose(visible, alone, rtol=0.02) and visible.min() > 8  # none hides another, none is outside
    assert seen == {2, 3, 4, 5}


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations(stores, relation):
    source = one(stores, related=1.0, relations=(relation,))
    for i in range(20):
        scene, told = source.scene(i)[0], source.describe(i)
        (a, b), masks = scene.things, scene.masks()[0]
        alone = [scene.cover(k, 0).sum() for k in (0, 1)]
        (ax, ay), (bx, by) = a.centres[0], b.centres[0]
        assert told["relation"] == relation and relation in told["plainest"]
        gap = abs(ay - by) - a.radii[0] * a.extents[1] - b.radii[0] * b.extents[1]
        if relation in ("above", "below"):
            assert (ay < by) == (relation == "above") and gap > 0
        elif relation == "beside":
            assert (ax < bx) == (told["side"] == "left")
            assert abs(ax - bx) > a.radii[0] * a.extents[0] + b.radii[0] * b.extents[0]
        elif relation in ("on", "riding"):
            assert ay < by and a.depth < b.depth and gap < 0
        else:
            hidden = 0 if relation == "behind" else 1
            assert masks[hidden].sum() < 0.98 * alone[hidden] and masks[1 - hidden].sum() > 0.99 * alone[1 - hidden]
            assert masks[hidden].sum() > 0.2 * alone[hidden]


def test_followers_go_behind_and_satellites_around(stores):
    source = opened(stores, plain=0.0, counted=0.0, related=0.0, several=1.0, held_out=0.0)
    seen = set()
    for i in range(150):
        told, things = source.describe(i), source.scene(i)[0].things
        seen.add(told["layout"])
        if told["layout"] == "following":
            sign = 1 if told["side"] == "right" else -1
            assert (sign * np.diff(things[0].centres[:, 0]) > 0).all()
            assert (sign * (things[1].centres - things[0].centres)[:, 0] > 0).all()
        elif told["layout"] == "orbiting":
            away = things[0].centres - things[1].centres
            assert np.ptp(np.hypot(*away.T)) < 1e-9 and np.ptp(things[1].centres) == np.ptp(things[1].centres[0])
            assert np.ptp(np.unwrap(np.arctan2(away[:, 1], away[:, 0]))) > 4
    assert seen == {"several", "following", "orbiting"}


def parse(text):
    """The plainest phrasing of one kind of thing, taken apart."""
    numbers = {v: k for k, v in COUNTS.items()}
    motions = {f"{conjugate(v[0][0], 'ing')} {v[0][1]}".strip(): k for k, v in PHRASES.items()}
    scenes = {"in the sky": "sky", "at night": "night", "on the grass": "grass", "at sea": "sea", "in the snow": "snow",
              "in the city": "city", "gradient": "gradient", "background": "plain"}  # fmt: skip
    background = next((v for k, v in scenes.items() if text.endswith(k)), "white")
    text = re.sub(
        r" (in the sky|at night|on the grass|at sea|in the snow|in the city|on an? .* (gradient|background))$", "", text
    )
    motion = next((v for k, v in motions.items() if text.endswith(f" {k}")), "still")
    text = re.sub("|".join(f" {m}$" for m in motions), "", text)
    words = re.sub(r"^an? ", "", text).split(" ")
    count = numbers.get(words[0], 1)
    words = words[1:] if words[0] in numbers else words
    size = words.pop(0) if words[0] in SIZES else "medium"
    colour = words.pop(0) if words[0] in COLOURS else ""
    return count, size, colour, " ".join(words), motion, background


def test_the_plainest_phrasing_says_the_scene(stores):
    source = one(stores, counted=0.3, plainest=1.0, filler=0.0, with_style=0.0)
    for i in range(300):
        told = source.describe(i)
        thing = told["things"][0]
        count, size, colour, noun, motion, background = parse(told["caption"])
        said_size = "medium" if told["layout"] == "counted" or thing["motion"] in ("towards", "away") else thing["size"]
        wanted = plural_of(thing["concept"]) if thing["count"] > 1 else thing["concept"]
        assert (count, size, colour, noun) == (thing["count"], said_size, thing["colour"], wanted), told["caption"]
        assert (motion, background) == (thing["motion"], told["background"]), told["caption"]
        assert told["caption"] == told["plainest"]


def test_free_captions_name_what_is_there_and_nothing_else(stores):
    source = opened(stores, plainest=0.0)
    sideways = {"left": r"\bright", "right": r"\bleft(?! to right)"}
    for i in range(400):
        told = source.describe(i)
        text = told["caption"]
        for thing in told["things"]:
            nouns = {w for noun in [*thing["words"], thing["name"]] for w in (noun, plural_of(noun))}
            assert any(re.search(rf"\b{re.escape(n)}\b", text) for n in nouns), text
        if len(told["things"]) == 1 and not told["things"][0]["place"] and told["things"][0]["motion"] in sideways:
            assert not re.search(sideways[told["things"][0]["motion"]], text.replace("from right to left", "")), text
        if told["background"] == "white":
            assert not re.search(r"snow|night|grass|meadow|\bcity\b|\bsea\b|\bsky\b|gradient", text), text
        assert "  " not in text and "{" not in text and " a a" not in text and " ," not in text


def test_words_that_mean_nothing_mean_nothing():
    known = {*COLOURS, *SIZES, *BACKGROUNDS, *COUNTS.values(), *MOTIONS, *NAMES} | {
        "snowy",
        "little",
        "big",
        "car",
        "dog",
    }
    for text in (*filler.ADJECTIVES, *filler.BEFORE, *filler.AFTER, *filler.ASIDES):
        assert not set(re.findall(r"[a-z]+", text)) & (known - {"still", "one", "following"}), text


def test_pictures_say_no_motion_and_any_size_works(stores):
    source = opened(stores, num_frames=1, height=40, width=72, plainest=0.0, filler=0.0)
    clip = source.clip(0)
    assert clip.frames.shape == (1, 40, 72, 3)
    for i in range(200):
        assert {t["motion"] for t in source.describe(i)["things"]} == {"still"}
        assert not re.search(r"\b(mov|bounc|spin|jump|swing|video|clip|animation)", source.describe(i)["caption"])
    assert opened(stores, num_frames=5, height=130, width=48).clip(1).frames.shape == (5, 130, 48, 3)


def test_recolouring_has_the_colour_that_is_said(stores):
    source = one(stores, recoloured=1.0, loops=0.0, motions=("still",), backgrounds=("white",))
    for i in range(30):
        scene, told = source.scene(i)[0], source.describe(i)
        colour = told["things"][0]["colour"]
        if told["things"][0]["name"] == "man surfing":
            assert colour == ""  # people keep theirs
            continue
        seen = scene.frame(0)[scene.cover(0, 0) > 0.99].mean(0)
        near = min(COLOURS, key=lambda c: np.abs(np.array(COLOURS[c]) - seen).sum())
        assert near == colour or np.abs(np.array(COLOURS[colour]) - seen).max() < 60, (near, colour)
    assert (recolour(np.full((1, 2, 2, 4), 200, np.uint8), "red")[0, 0, 0] == [220, 40, 40, 200]).all()


def test_nouns():
    assert noun_of("dog face", "3/34").concept == "dog" and noun_of("automobile", "5/54").words[:2] == (
        "car",
        "automobile",
    )
    assert noun_of("man running", "1/27") is None and noun_of("ATM sign", "8/83") is None
    assert noun_of("man: beard", "1/23").concept == "man with a beard" and noun_of("scissors", "7/76").plural
    assert plural_of("face with tears of joy") == "faces with tears of joy" and plural_of("wolf") == "wolves"
    assert (
        plural_of("man surfing") == "men surfing"
        and plural_of("fox") == "foxes"
        and plural_of("butterfly") == "butterflies"
    )
    assert (
        with_article("owl") == "an owl" and with_article("unicorn") == "a unicorn" and with_article("SUV") == "an SUV"
    )
    assert [conjugate("spin", "ing"), conjugate("fly", "s"), conjugate("move", "ing")] == [
        "spinning",
        "flies",
        "moving",
    ]


def test_origins_and_styles_leave_art_out(stores):
    assert opened(stores).origins() == ["@f/a@1", "@n/b@1"]
    source = opened(stores, origins=("@n/",), loops=0.0)
    assert source.origins() == ["@n/b@1"]
    assert {t["origin"] for i in range(50) for t in source.describe(i)["things"]} == {"@n/b@1"}


def test_it_mixes_with_the_emoji(stores):
    sprites = {"source": "sprites", "num_clips": 30, **stores}
    emoji = {"source": "emoji", "kind": "animations", "store": stores["animations"], "times": 2}
    mixed = make_source({"source": "mix", "of": [sprites, emoji]})
    assert len(mixed) > 30 and mixed.clip(0).frames.shape == mixed.clip(len(mixed) - 1).frames.shape == (16, 64, 64, 3)
    assert mixed.captions()[:30] == make_source(sprites).captions()


@pytest.mark.parametrize(
    "change,message",
    [
        ({"motions": ("flying",)}, "motions"),
        ({"counted": 0.6, "related": 0.6}, "more than 1"),
        ({"split": "held_out", "held_out": 0.0}, "keeps no combination out"),
        ({"names": ("unicorn",)}, "no thing among the"),
        ({"names": ("fox",), "related": 1.0, "counted": 0.0, "several": 0.0, "plain": 0.0}, "no style has 2"),
        ({"height": 8}, "height must be in 16"),
        ({"stills": "/nowhere"}, "build it first"),
    ],
)
def test_bad_settings(stores, change, message):
    with pytest.raises(UserError, match=message):
        opened(stores, **change)


def test_a_thing_is_drawn_where_its_centre_is(stores):
    source = one(stores, motions=("still", "spinning"), loops=0.0)
    y, x = np.mgrid[0:64, 0:64]
    for i in range(12):
        scene = source.scene(i)[0]
        for f in (0, 9):
            cover, (cx, cy) = scene.cover(0, f), scene.things[0].centres[f]
            assert np.hypot((cover * x).sum() / cover.sum() - cx, (cover * y).sum() / cover.sum() - cy) < 0.3
