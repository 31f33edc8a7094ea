"""What people, and people of ill will, hand over: recipes, options, JSON, weights, captions and videos gone wrong."""

from __future__ import annotations

import copy
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from tests.conftest import TINY_MODEL
from tests.devices.recipes import SYSTEMS, TEXT, WORLD
from tests.fuzz.case import Case
from tests.tiny_models import SAMPLING

PROMPT = "a red circle moving left"
#: One step: a recipe that says nothing of its steps trains ten thousand, which ends, but not while anyone waits.
TRAIN = ("train", "--steps", "1")
NUMBERS: list[Any] = [float("nan"), float("inf"), float("-inf"), 0, -1, 1, 2, 3, 0.5, -0.5, 1e-300, 1e300, 10**6, 10**9,
                      -(10**9), 10**30, 2**63, 7]  # fmt: skip
TEXTS: list[Any] = ["", " ", "x", "../../x", "/", ".", "a\0b", "[/red]", "[bold", "{}", "a" * 5000, "caf\udce9", "nan",
                    "-", "--help", "日本", "%s", "$HOME", "~", "x" * 300, "\n", "👩‍🚀" * 50]  # fmt: skip
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [1, 2], {"a": 1}, [None], [float("nan")], {"type": "x"}]
HOSTILE = st.sampled_from(NUMBERS + TEXTS + OTHERS)
ON_LINES = st.sampled_from([str(n) for n in NUMBERS] + [t for t in TEXTS if "\0" not in t])


def bytes_of(recipe: Any) -> bytes:
    return yaml.safe_dump(recipe, allow_unicode=True).encode("utf-8", "surrogateescape")


def _recipe(name: str) -> dict[str, Any]:
    """A small recipe of one of the systems, with a folder of models to be filled in."""
    system, frames, words, model, diffusion, objective = SYSTEMS[name]
    folders = {
        "MODELS/picture": "{picture}",
        "MODELS/vae": "{vae}",
        "MODELS/scorer": "{scorer}",
        "MODELS/alive": "{alive}",
    }
    side = 32 if system == "autoencoder" else 16
    return copy.deepcopy({
        "name": name, "system": system, "model": {k: folders.get(str(v), v) for k, v in model.items()},
        "diffusion": diffusion, "objective": objective,
        "data": {**WORLD, "height": side, "width": side, "num_frames": frames},
        **({"text": {"encoder": TEXT.encoder, "max_length": TEXT.max_length}} if words else {}),
        "training": {"steps": 1, "batch_size": 2, "warmup_steps": 0, "validation_clips": 2, "threads": 1, "workers": 0},
        "sampling": {**SAMPLING, "num_frames": frames, "num_inference_steps": 2},
    })  # fmt: skip


def _places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested keys and lists."""
    inner = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list | tuple) else ()
    )
    return [path] * bool(path) + [place for key, value in inner for place in _places(value, (*path, key))]


def _listed(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: _listed(v) for k, v in values.items()}
    return [_listed(v) for v in values] if isinstance(values, list | tuple) else values


@st.composite
def changed(draw: Any, values: Any, most: int = 2) -> Any:
    """Nested values with some replaced, left out or added."""
    out = _listed(copy.deepcopy(values))
    for _ in range(draw(st.integers(1, most))):
        places = _places(out)
        if not places:
            return draw(HOSTILE)
        *path, last = draw(st.sampled_from(places))
        inside = out
        for key in path:
            inside = inside[key]
        what = draw(st.sampled_from(["value", "value", "value", "gone", "more"]))
        if what == "value":
            inside[last] = draw(HOSTILE)
        elif what == "gone":
            del inside[last]
        elif isinstance(inside, dict):
            inside[draw(st.sampled_from(["x", "", "type", "steps", "path", "__class__"]))] = draw(HOSTILE)
    return out


@st.composite
def recipes(draw: Any) -> Case:
    """Recipes of every system with something wrong, shown, planned or trained."""
    recipe = draw(changed(_recipe(draw(st.sampled_from(sorted(SYSTEMS))))))
    verb = draw(st.sampled_from([("data", "show"), ("plan",), TRAIN, TRAIN]))
    return Case((*verb, "r.yaml"), {"r.yaml": bytes_of(recipe)})


@st.composite
def yaml_bytes(draw: Any) -> Case:
    """Recipes that are hardly YAML."""
    good = bytes_of(_recipe("vdm_joint"))
    data = draw(st.one_of(
        st.binary(max_size=200), mangled(good),
        st.sampled_from([b"", b"[]", b"- 1", b"a: &a [*a]", b"!!python/object/apply:os.system ['touch x']", b"\xff\xfe",
                         b"name: n\nname: m", b"{" * 20_000, b"a: " + b"9" * 5000, b"? [a, b]\n: c", b"a: 2026-01-01"]),
    ))  # fmt: skip
    return Case((*draw(st.sampled_from([("plan",), TRAIN, ("data", "show")])), "r.yaml"), {"r.yaml": data})


@st.composite
def mangled(draw: Any, data: bytes) -> bytes:
    """Bytes cut short, with some changed, put in or left out."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        what = draw(st.sampled_from(["cut", "byte", "gone", "more", "bits"]))
        if what == "cut":
            out = out[:at]
        elif what == "byte" and out:
            out[at] = draw(st.integers(0, 255))
        elif what == "gone":
            del out[at : at + draw(st.integers(1, 64))]
        elif what == "more":
            out[at:at] = draw(st.binary(max_size=16))
        elif out:
            out[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(out)


#: Command, positional arguments, and whether it samples: its options are drawn from the command's own list.
COMMANDS: list[tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]] = [
    (("generate",), (PROMPT,), {"--model": "{model}", "-o": "o.npy", "--steps": "1"}),
    (("extend",), ("v.npy",), {"--model": "{model}", "-o": "o.npy", "--steps": "1", "--add-frames": "1"}),
    (("interpolate",), ("v.npy",), {"--model": "{model}", "-o": "o.npy", "--steps": "1"}),
    (("super-resolve",), ("v.npy",), {"--model": "{model}", "-o": "o.npy", "--steps": "1", "--time": "2"}),
    (
        ("distill",),
        ("{model}",),
        {"-o": "run", "--recipe": "r.yaml", "--guidance-training": "1", "--halving-training": "1"},
    ),
    (("animate",), ("p.png",), {"--model": "{alive}", "-o": "o.npy", "--steps": "1"}),
    (("zero",), (PROMPT,), {"--model": "{picture}", "-o": "o.npy", "--steps": "2", "--num-frames": "2"}),
    (("control",), ("v.npy", PROMPT), {"--model": "{picture}", "-o": "o.npy", "--steps": "2"}),
    (("replay",), ("v.npy",), {}),
    (("data", "build"), ("clips",), {"--store": "store", "--size": "16", "--num-frames": "2", "--short": "hold"}),
    (("data", "show"), ("r.yaml",), {}),
    (("models", "import"), ("{picture}",), {}),
    (("models", "export"), ("{picture}", "m"), {}),
    (("plan",), ("r.yaml",), {}),
    (("train",), ("r.yaml",), {"-o": "run", "--steps": "1"}),
    (("curate", "tune"), ("clips",), {"-o": "out"}),
]


def _options(command: tuple[str, ...]) -> list[str]:
    import typer

    from muybridge.cli.main import app

    found: Any = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    return sorted({o for p in found.params for o in getattr(p, "opts", []) if o.startswith("--")} - {"--help"})


def good_files() -> dict[str, bytes]:
    """A video, a picture, a recipe and a folder of one captioned clip."""
    from muybridge.data.video_io import write_video

    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("v.npy", "v.gif", "v.mp4", "v.webp", "c.gif"):
            write_video(frames, folder / file, 8.0)
        write_video(frames[:1], folder / "p.png")
        files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files["clips/c.gif"], files["clips/c.txt"] = files.pop("c.gif"), b"a red fox"
    return {**files, "r.yaml": bytes_of(_recipe("vdm_joint"))}


GOOD = good_files()


@st.composite
def command_lines(draw: Any) -> Case:
    """Commands with options of their own and values that nobody expects."""
    command, places, options = draw(st.sampled_from(COMMANDS))
    places = tuple(draw(ON_LINES) if draw(st.integers(0, 9)) == 0 else place for place in places)
    chosen = dict(options)
    known = _options(command)
    for _ in range(draw(st.integers(0 if places else 1, 3)) if known else 0):
        chosen[draw(st.sampled_from(known))] = draw(ON_LINES)
    line = [*command, *places]
    for name, value in chosen.items():
        line += [name, value]
    return Case(tuple(line), GOOD)


@st.composite
def videos(draw: Any) -> Case:
    """Damaged videos and pictures, to commands that read them."""
    name = draw(st.sampled_from(["v.gif", "v.mp4", "v.webp", "p.png", "v.npy"]))
    data = draw(st.one_of(mangled(GOOD[name]), st.binary(max_size=64)))
    ending = name if draw(st.integers(0, 4)) else draw(st.sampled_from(["v.mp4", "v.gif", "v.mkv", "v.avi", "v.ts"]))
    line = draw(st.sampled_from([
        ("extend", ending, "--model", "{model}", "-o", "o.npy", "--steps", "1", "--add-frames", "1"),
        ("animate", ending, "--model", "{alive}", "-o", "o.npy", "--steps", "1"),
        ("replay", ending), ("data", "build", "clips", "--store", "store", "--short", "hold", "--size", "16"),
    ]))  # fmt: skip
    return Case(line, {ending: data, f"clips/{ending}": data, f"clips/{Path(ending).stem}.txt": b"words"})


@st.composite
def captions(draw: Any) -> Case:
    """Texts and tables of captions of any bytes."""
    odd = [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfea\0", b"caf\xe9", b"[/red]", b"a" * 200_000]
    texts = st.text(max_size=80).map(lambda t: t.encode("utf-8", "surrogatepass"))
    words = st.one_of(st.binary(max_size=80), texts, st.sampled_from(odd))
    rows = b'{"file": "c.gif", "caption": "one"}\n'
    table = draw(
        st.sampled_from(["captions.jsonl", "metadata.csv", "x.json", "x.parquet", "prompts.txt", "s.tar", "c.json"])
    )
    files = {
        "clips/c.gif": GOOD["clips/c.gif"],
        "clips/c.txt": draw(words),
        f"clips/{table}": draw(st.one_of(words, mangled(rows))),
    }
    if draw(st.booleans()):
        files["clips/videos.txt"] = draw(words)
    return Case(
        ("data", "build", "clips", "--store", "store", "--short", "hold", "--size", "16", "--num-frames", "2"), files
    )


def _weights(header: Any, size: int = 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


@st.composite
def weights(draw: Any) -> Case:
    """safetensors files with any header, as a LoRA, and as what `models import` is asked of."""
    tensor = {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}
    names = [
        "unet.a.lora_A.weight",
        "lora_unet_a.lora_down.weight",
        "control_model.x",
        "model.diffusion_model.x",
        "x",
        "motion_modules.x",
    ]
    header = draw(changed({draw(st.sampled_from(names)): tensor, "__metadata__": {"a": "b"}}))
    data = draw(st.one_of(st.just(_weights(header)), mangled(_weights(header)), st.binary(max_size=40),
                          st.just(struct.pack("<Q", 2**63 - 1) + b"{}")))  # fmt: skip
    merged = ("zero", PROMPT, "--model", "{picture}", "--lora", "w.safetensors", "-o", "o.npy", "--steps", "2")
    line = draw(st.sampled_from([("models", "import", "w.safetensors"), merged]))
    return Case(line, {"w.safetensors": data})


@st.composite
def folders(draw: Any) -> Case:
    """Model folders whose JSON is not what it should be."""
    name = draw(st.sampled_from(["model_index.json", "muybridge.json", "config.json", "network/config.json"]))
    base: dict[str, Any] = {
        "model_index.json": {"_class_name": "TextToVideoPipeline", "network": ["muybridge.models.unet3d", "UNet3D"],
                             "text_encoder": "all-MiniLM-L6-v2", "text_max_length": 8, "sampling": dict(SAMPLING)},
        "muybridge.json": {"sampling": dict(SAMPLING), "image": "{picture}"},
        "config.json": {"_class_name": "UNet3D"}, "network/config.json": dict(TINY_MODEL),
    }  # fmt: skip
    files = {f"m/{n}": json.dumps(v).encode() for n, v in base.items()}
    value = json.dumps(draw(changed(base[name]))).encode("utf-8", "surrogateescape")
    files[f"m/{name}"] = draw(
        st.one_of(st.just(value), st.sampled_from([b"[]", b"5", b"", b"\xff", b"[" * 100_000, b'"x"']))
    )
    line = draw(st.sampled_from([("models", "import", "m"), ("generate", PROMPT, "--model", "m", "-o", "o.npy"),
                                 ("models", "export", "m", "out")]))  # fmt: skip
    return Case(line, files)


@st.composite
def records(draw: Any) -> Case:
    """Videos whose record says anything."""
    record = {"form": 2, "command": "generate", "model": "{model}", "model_hash": "x", "seed": 1,
              "options": {"prompt": PROMPT}, "given": {}, "sampling": dict(SAMPLING), "frames_sha256": "x",
              "upscale": 1, "lora": []}  # fmt: skip
    value = json.dumps(draw(changed(record, 3))).encode("utf-8", "surrogateescape")
    line = draw(
        st.sampled_from([("replay", "v.npy"), ("extend", "v.npy", "--add-frames", "1", "--steps", "1", "-o", "o.npy")])
    )
    return Case(line, {"v.npy": GOOD["v.npy"], "v.npy.json": value})


KINDS = {
    "recipes": recipes(), "yaml": yaml_bytes(), "command-lines": command_lines(), "videos": videos(),
    "captions": captions(), "weights": weights(), "folders": folders(), "records": records(),
}  # fmt: skip
