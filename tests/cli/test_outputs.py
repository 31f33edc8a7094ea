"""No command writes over what it reads, drops an option in silence, or starts what it will refuse to write."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_recipe, read_video, write_video
from muybridge.library.parts import load_picture_unet
from muybridge.making import base, replay
from tests.conftest import randomise


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files(tmp_path, picture_model):
    drawn = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    write_video(drawn, tmp_path / "v.npy", 8.0)
    Image.fromarray(drawn[0]).save(tmp_path / "look.webp", lossless=True)
    Image.fromarray(drawn[0]).save(tmp_path / "look.png")
    (tmp_path / "prompts.npy").write_text("a fox\na dog\n")
    (tmp_path / "copy.webp").symlink_to(tmp_path / "look.webp")
    os.link(tmp_path / "look.webp", tmp_path / "hard.webp")
    torch.manual_seed(4)
    network = ControlNetModel.from_unet(
        load_picture_unet(str(picture_model)), conditioning_embedding_out_channels=(8, 16)
    )
    randomise(network, 0.05).save_pretrained(tmp_path / "net")
    shutil.copytree(picture_model, tmp_path / "pm")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


def held(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "cache" not in p.parts}


def refused(folder, words, *arguments):
    """Exit code 2 with these words before a model is opened, and every file as it was."""
    before = held(folder)
    with pytest.MonkeyPatch.context() as patch:
        for room in (base, replay):
            patch.setattr(room, "open_pipeline", lambda *_: pytest.fail("the model was opened"))
        done = run(*arguments)
    assert done.exit_code == 2 and words in " ".join(done.output.split()), (done.output, done.exception)
    assert held(folder) == before


RESTYLE = ("restyle", "v.npy", "--content")
CONTROL = ("control", "v.npy", "a fox", "--control-net", "net", "--model", "pm")


@pytest.mark.parametrize("output", ["look.webp", "copy.webp", "hard.webp", "../{here}/look.webp"])
def test_a_content_picture_is_not_written_over(files, output):
    refused(files, f"is {files}/look.webp itself", *RESTYLE, "look.webp", "-o", output.format(here=files.name))


@pytest.mark.parametrize(
    "words,arguments",
    [
        ("is v.npy itself", (*RESTYLE, "a cat", "-o", "v.npy")),
        ("lies in {}/net, which is read", (*CONTROL, "-o", "net/out.npy")),
        ("lies in {}/net, which is read", (*CONTROL, "-o", "linked.webp")),
        ("lies in pm, which is read", (*CONTROL, "-o", "pm/unet/out.mp4")),
        ("lora.npy itself", ("zero", "a", "--model", "pm", "--lora", "lora.npy", "-o", "lora.npy")),
        ("lies in {}/depth", (*CONTROL, "--control", "depth", "--structure-model", "depth", "-o", "depth/o.mp4")),
        ("0000.npy itself", ("generate", "--prompts", "0000.npy", "--output-dir", ".", "--format", "npy")),
    ],
)
def test_nothing_that_is_read_is_written_over(files, words, arguments, monkeypatch):
    (files / "linked.webp").symlink_to(files / "net" / "config.json")
    (files / "0000.npy").symlink_to(files / "prompts.npy")
    (files / "depth").mkdir()
    (files / "depth" / "config.json").write_text("{}")
    (files / "lora.npy").write_text("weights")
    monkeypatch.setattr("muybridge.cli.made.lora_file", lambda text: (files / text, 1.0))
    refused(files, words.format(files), *arguments)


def test_a_sheet_of_clips_is_a_png_beside_the_data(files):
    (files / "films").mkdir()
    shutil.copy(files / "look.png", files / "films" / "a.png")
    (files / "sheet.png").symlink_to(files / "films" / "a.png")
    data = {"source": "mix", "of": [{"source": "folder", "path": "films", "height": 16, "width": 16, "num_frames": 1}]}
    recipe = {"name": "n", "system": "vdm", "model": {"type": "unet3d"}, "data": data}
    (files / "r.yaml").write_text(json.dumps(recipe))
    os.link(files / "r.yaml", files / "same.png")
    refused(files, "cannot write .yaml", "data", "show", "r.yaml", "-o", "r.yaml")
    refused(files, "cannot write .webp", "data", "show", "r.yaml", "-o", "look.webp")
    refused(files, "is r.yaml itself", "data", "show", "r.yaml", "-o", "same.png")
    refused(files, "lies in films, which is read", "data", "show", "r.yaml", "-o", "films/a.png")
    refused(files, "lies in films, which is read", "data", "show", "r.yaml", "-o", "sheet.png")


@pytest.mark.parametrize("text", ['{"mine": 1}', "notes", "[]"])
def test_a_file_beside_a_npy_that_is_no_record_stays(files, text):
    (files / "out.npy.json").write_text(text)
    refused(files, "out.npy.json: is no record of muybridge", "generate", "a fox", "-o", "out.npy")
    (files / "out.npy.json").unlink()
    (files / "out.npy.json").mkdir()
    refused(files, "out.npy.json: is a folder", "generate", "a fox", "-o", "out.npy")


def test_a_record_of_ours_is_replaced(files):
    for seed in (1, 2):
        ok("zero", "a fox", "--model", "pm", "--steps", 2, "--num-frames", 2, "--seed", seed, "-o", "o.npy")
    assert read_recipe(files / "o.npy")["seed"] == 2


@pytest.mark.parametrize("content", ["nosuch.png", "looks/robot", "~/x.WEBP"])
@pytest.mark.parametrize("strength", [(), ("--strength", "0.5", "--model", "pm")])
def test_a_mistyped_path_is_no_words(files, content, strength):
    refused(files, f"{content}: no picture is there", *RESTYLE, content, "-o", "o.mp4", *strength)


def test_redrawing_takes_no_picture(files):
    refused(files, "redraws under words", *RESTYLE, "look.png", "-o", "o.mp4", "--strength", "0.5", "--model", "pm")


MANY = ("generate", "--prompts", "prompts.npy", "--output-dir", "d")
UNREAD = {
    "--structure-level: not read here, with --strength": (*RESTYLE, "a", "--strength", ".5", "--structure-level", "2"),
    "--structure: not read here, with --strength": (*RESTYLE, "a", "--strength", ".5", "--structure", "edges"),
    "--temporal-scale: not read here, with": (*RESTYLE, "a", "--strength", ".5", "--temporal-scale", "2"),
    "--structure-model: not read here, with": (*RESTYLE, "a", "--strength", ".5", "--structure-model", "x"),
    "--structure-model: not read here, it is for depth": (
        *RESTYLE, "a", "--structure", "edges", "--structure-model", "x"
    ),
    "--negative: not read here, only with --strength": (*RESTYLE, "a", "--negative", "b"),
    "--guidance-rescale: not read here, only": (*RESTYLE, "a", "--guidance-rescale", ".5"),
    "--structure-model: not read here, it is for depth, which": (*CONTROL, "--structure-model", "x"),
    "--smooth-at: not read here, --method zero": (*CONTROL, "--method", "zero", "--smooth-at", ".5"),
    "--smooth-at: not read here, --smooth none": (*CONTROL, "--smooth", "none", "--smooth-at", ".5"),
    "--weight: not read here": ("extend", "v.npy", "--method", "replacement", "--weight", "3"),
    "--motion: not read here": ("zero", "a", "--no-motion-field", "--motion", "3", "3"),
    "--output: not read here, the videos": (*MANY, "-o", "o.mp4"),
    "--output-dir: not read here": ("generate", "a", "--output-dir", "d"),
    "--format: not read here": ("generate", "a", "--format", "npy"),
    "--batch-size: not read here": ("generate", "a", "--batch-size", "2"),
    "--kind: not read here": ("data", "build", "films", "--kind", "stills"),
    "--skin-tones: not read here": ("data", "build", "films", "--skin-tones"),
    "--packages: not read here": ("data", "build", "films", "--packages", "x"),
    "--fps: not read here": ("data", "build", "emoji", "--fps", "8"),
    "--short: not read here": ("data", "build", "emoji", "--short", "drop"),
    "--max-pieces: not read here": ("data", "build", "emoji", "--max-pieces", "2"),
}  # fmt: skip


@pytest.mark.parametrize("words", UNREAD)
def test_an_option_that_is_not_read_is_refused(files, words):
    (files / "films").mkdir()
    refused(files, words, *UNREAD[words])


PNG = {
    "many": ("generate", "--prompts", "prompts.npy", "--output-dir", "d", "--format", "png"),
    "generate": ("generate", "a fox", "-o", "o.png"),
    "zero": ("zero", "a", "-o", "o.png"),
    "animate": ("animate", "look.png", "-o", "o.png"),
    "extend": ("extend", "v.npy", "-o", "o.png"),
    "interpolate": ("interpolate", "v.npy", "-o", "o.png"),
    "upsample-fps": ("upsample-fps", "v.npy", "-o", "o.png"),
    "control": (*CONTROL, "-o", "o.png"),
    "every second": (*CONTROL, "-o", "o.png", "--frame-step", "2"),
    "restyle": (*RESTYLE, "a cat", "-o", "o.png"),
}


@pytest.mark.parametrize("which", PNG)
def test_a_png_for_a_video_is_refused_before_the_model_is_opened(files, which):
    refused(files, "a .png holds one frame", *PNG[which])


@pytest.mark.parametrize("more", [("--max-frames", "1"), ("--frame-step", "3")])
def test_a_png_of_one_frame_is_made(files, more):
    ok(*CONTROL, "--steps", 2, "-o", "o.png", *more)
    assert len(read_video("o.png").frames) == 1


def test_a_file_of_another_record_is_not_taken_for_this_one(files):
    told = ("--prompts", "prompts.npy", "--output-dir", "d", "--format", "npy", "--model", "pm", "--steps", 2)
    arguments = ("generate", *told, "--num-frames", 2)
    ok(*arguments)
    assert "2 were already there" in ok(*arguments)
    assert "2 were already there" in ok(*arguments, "--fps", read_recipe("d/0000.npy")["sampling"]["fps"])
    before = held(files)
    for more, words in {
        ("--precision", "bf16"): "precision is not there, would be bf16",
        ("--upscale", "2"): "upscale is 1, would be 2",
        ("--negative", "a dog", "--guidance-scale", "2"): "options.negative_prompt is",
        ("--seed", "1"): "seed is 0, would be 1",
    }.items():
        done = run(*arguments, *more)
        assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output
        assert "d/0000.npy: is there already" in done.output and held(files) == before
    shutil.rmtree("d")
    ok(*arguments, "--precision", "bf16")
    done = run(*arguments)
    assert done.exit_code == 2 and "precision is bf16, would be not there" in " ".join(done.output.split())


def test_what_changes_nothing_is_told(files):
    told = ("zero", "a fox", "--model", "pm", "--steps", 2, "--num-frames", 2, "-o", "o.npy", "--negative", "a dog")
    assert "--negative changes nothing at guidance scale 1" in ok(*told, "--guidance-scale", 1)
    assert "changes nothing" not in ok(*told, "--guidance-scale", 2)


@pytest.mark.slow
def test_an_edit_with_noise_of_its_seed(files):
    ok("tune", "v.npy", "--caption", "a fox", "--folder", "t", "--model", "pm", "--train-steps", 1, "--steps", 4)
    edit, made = ("edit", "t/model", "a dog", "--steps", 4, "-o"), {}
    for name, more in {"a": (), "b": ("--seed", 1), "e": ("--eta", 1), "f": ("--eta", 1, "--seed", 1)}.items():
        done = ok(*edit, f"{name}.npy", *more)
        made[name] = read_video(f"{name}.npy").frames
        assert ("--seed changes nothing here" in done) == (name == "b")
        assert "the same" in ok("replay", f"{name}.npy")
    assert np.array_equal(made["a"], made["b"])
    assert not np.array_equal(made["a"], made["e"]) and not np.array_equal(made["e"], made["f"])
    refused(files, "is " + str(files / "v.npy"), *edit, "v.npy")


def test_a_record_holds_nets_by_hash_and_replays_from_another_folder(files, monkeypatch):
    ok(*CONTROL, "--steps", 2, "-o", "o.npy")
    record = read_recipe("o.npy")
    assert set(record["files"]) == {str(files / "net"), "interpolator"}
    assert record["options"]["control_net"] == [str(files / "net")] and record["model"] == str(files / "pm")
    (files / "elsewhere").mkdir()
    monkeypatch.chdir(files / "elsewhere")
    assert "the same" in ok("replay", files / "o.npy")
    config = files / "net" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"note": 1}))
    refused(files, "net has changed since", "replay", files / "o.npy")
    shutil.rmtree(files / "net")
    refused(files, "net: is not there any more", "replay", files / "o.npy")


@pytest.mark.parametrize("change", ["drawn anew", "gone"])
def test_a_record_holds_the_content_picture(files, monkeypatch, change):
    ok("restyle", "v.npy", "--content", "look.png", "--steps", 1, "-o", "o.npy", "--max-frames", 2)
    record = read_recipe("o.npy")
    assert record["options"]["content"] == str(files / "look.png")
    assert set(record["files"]) == {str(files / "look.png"), "depth", "emoji-clip", "emoji-prior"}
    (files / "elsewhere").mkdir()
    monkeypatch.chdir(files / "elsewhere")
    assert "the same" in ok("replay", files / "o.npy")
    (files / "look.png").unlink()
    if change == "drawn anew":
        Image.new("RGB", (16, 16), "red").save(files / "look.png")
    words = "look.png has changed since" if change == "drawn anew" else "look.png: is not there any more"
    refused(files, words, "replay", files / "o.npy")


def test_a_record_with_damaged_files_is_refused(files):
    ok(*CONTROL, "--steps", 2, "-o", "o.npy", "--max-frames", 1)
    record = read_recipe("o.npy")
    for damaged in (5, {"net": "x"}, {"net": {"kind": "x", "hash": "y"}}, {"net": {"kind": "folder"}}):
        write_video(read_video("o.npy").frames, "p.npy", 8, record | {"files": damaged})
        refused(files, "record is damaged: files", "replay", "p.npy")
