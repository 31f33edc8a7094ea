"""What the machine does: square brackets in names, caches that are damaged or cannot be written, pickles, bombs."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.packs import PackedClip, PackedSource, build_pack
from muybridge.errors import Notice, UserError
from muybridge.models.vision.structure import Canny, structure_of
from tests.conftest import write_recipe

REPOSITORY = Path(__file__).parent.parent
FRAMES = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_square_brackets_are_no_markup(tiny_recipe, tmp_path):
    recipe = write_recipe(tiny_recipe, tmp_path / "r.yaml")
    done = run("train", recipe, "-o", tmp_path / "runs[" / "old]" / "x", "--steps", 1)
    assert done.exit_code == 0 and "runs[/old]/x" in done.output.replace("\n", ""), done.output
    (tmp_path / "m" / "scheduler").mkdir(parents=True)
    (tmp_path / "m" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "m" / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "[/evil]"}')
    done = run("models", "import", tmp_path / "m")
    assert done.exit_code == 0 and "[/evil]" in done.output, done.output


def test_a_cache_that_is_damaged_is_made_anew_and_one_that_cannot_be_written_is_done_without(tmp_path):
    found = structure_of(Canny(), FRAMES, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    for damage in (kept.read_bytes()[:50], b""):
        kept.write_bytes(damage)
        assert np.array_equal(structure_of(Canny(), FRAMES, tmp_path / "cache"), found)
        assert np.array_equal(np.load(kept), found)
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(Notice, match="is not kept"):
        assert np.array_equal(structure_of(Canny(), FRAMES, tmp_path / "file" / "cache"), found)


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    from muybridge.data.video_io import write_video

    (tmp_path / "clips").mkdir()
    write_video(FRAMES, tmp_path / "clips" / "a.gif")
    (tmp_path / "clips" / "a.txt").write_text("a")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "file"))
    done = run("data", "build", tmp_path / "clips", "--num-frames", 2, "--short", "hold")
    assert done.exit_code == 2 and "MUYBRIDGE_CACHE" in done.output, done.output


def test_a_store_gives_no_more_bytes_than_it_says(tmp_path):
    build_pack(tmp_path / "s", [(PackedClip("a", "a", FRAMES.shape, 8.0, "a.gif"), FRAMES)], [], {}, {})
    assert np.array_equal(PackedSource(tmp_path / "s", "all", 2).clip(0).frames, FRAMES)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    for data in (zlib.compress(bytes(10**8)), b"no zlib", zlib.compress(b"few")):
        (tmp_path / "s" / "clips.bin").write_bytes(data)
        index["clips"][0]["size"] = len(data)
        (tmp_path / "s" / "index.json").write_text(json.dumps(index))
        with pytest.raises(UserError, match="a.gif is damaged in it"):
            PackedSource(tmp_path / "s", "all", 2).clip(0)


@pytest.mark.parametrize("kind", ["text", "scorer"])
def test_no_pickle_is_opened_where_safetensors_are_missing(tmp_path, kind):
    from transformers import BertConfig, BertModel

    from muybridge.models.text.encoder import MINILM, TextConfig, TextEncoder, find_minilm
    from muybridge.models.text.scorers import DualEncoder, open_scorer

    assert MINILM
    folder = tmp_path / "m"
    if kind == "text":
        model = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16))
        model.config.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            source = find_minilm() / name
            (folder / name).write_bytes(source.read_bytes()) if source.is_file() else None
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "decoy.safetensors").write_bytes(b"")
        opening = lambda: TextEncoder(TextConfig(str(folder)))  # noqa: E731
    else:
        network = DualEncoder(hidden=16, width=8)
        network.save_pretrained(folder)
        torch.save(network.state_dict(), folder / "diffusion_pytorch_model.bin")
        (folder / "diffusion_pytorch_model.safetensors").unlink()
        opening = lambda: open_scorer(folder)  # noqa: E731
    with pytest.raises((OSError, UserError), match="safetensors"):
        opening()


def test_what_the_system_refuses_is_one_message(tmp_path, monkeypatch):
    import muybridge.library.catalogue as catalogue

    for error, words in (
        (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
    ):

        def refuse(*_, error=error):
            raise error

        monkeypatch.setattr(catalogue, "bundled_models", refuse)
        done = run("models")
        assert done.exit_code == 2 and words in done.output, done.output
    monkeypatch.setattr(catalogue, "bundled_models", lambda: 1 / 0)
    assert isinstance(run("models").exception, ZeroDivisionError)  # faults of ours are not hidden


FULL = """
import json, resource, signal, sys
from typer.testing import CliRunner
from muybridge.cli.main import app
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for command in json.loads(sys.argv[2]):
    done = CliRunner().invoke(app, command)
    print("TOLD" + json.dumps([done.exit_code, done.output, repr(done.exception)]), flush=True)
"""


def with_files_of_at_most(size, *commands):
    """Commands, one after another, on a disk where no file can grow larger: what the libraries themselves raise there.
    Exit code, output and exception of each."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(size), json.dumps([list(map(str, c)) for c in commands])],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"}, cwd=REPOSITORY,
    )  # fmt: skip
    told = [json.loads(line.removeprefix("TOLD")) for line in done.stdout.splitlines() if line.startswith("TOLD")]
    assert len(told) == len(commands), done.stderr[-4000:]
    return told


def listing(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_was_there(tiny_recipe, tmp_path):
    from muybridge.data.video_io import write_video

    recipe, folder = write_recipe(tiny_recipe, tmp_path / "r.yaml"), tmp_path / "run"
    assert run("train", recipe, "-o", folder, "--steps", 2).exit_code == 0
    newest = folder / "checkpoints" / "step-00000002"
    before = {p.name: p.read_bytes() for p in newest.iterdir()}
    for name in ("model.safetensors", "optimizer.safetensors"):
        size = len(before[name]) // 2
        ((code, output, exception),) = with_files_of_at_most(size, ("train", recipe, "-o", folder))
        assert code == 2 and "last whole one is step 2" in output, output
        assert "SystemExit" in exception and "Traceback" not in output, (output, exception)
        assert {p.name: p.read_bytes() for p in newest.iterdir()} == before
        assert [p.name for p in (folder / "checkpoints").iterdir()] == [newest.name]
    (tmp_path / "clips").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
    write_video(noise, tmp_path / "clips" / "a.mp4")
    (tmp_path / "clips" / "a.txt").write_text("a")
    there = listing(tmp_path)
    commands = (
        ("export", folder, tmp_path / "m"),
        ("data", "build", tmp_path / "clips", "--store", tmp_path / "store", "--short", "hold"),
        ("generate", "a red circle", "--model", "world-vdm", "--steps", 1, "--upscale", 4, "-o", tmp_path / "o.npy"),
        ("models", "export", "emoji-image", tmp_path / "e"),
        ("curate", "run", tmp_path / "clips", "-o", tmp_path / "c", "--min-seconds", "0.5"),
    )
    for command, (code, output, exception) in zip(commands, with_files_of_at_most(2000, *commands), strict=True):
        assert code == 2 and "SystemExit" in exception, (command, output[-2000:], exception)
        assert "Traceback" not in output, (command, output)
        words = ("too large", "writing failed", "no clip")
        assert any(word in output.lower() for word in words), (command, output)
    left = [name for name in listing(tmp_path) if name not in there and not name.startswith("c")]
    assert left == []
