"""The page, driven by a real browser: what a reader does and sees. `MUYBRIDGE_PICTURES=1` writes the docs' pictures."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.known_footage import film, write_film
from muybridge.cli.main import app
from muybridge.data.video_io import read_video
from muybridge.models import build_network
from muybridge.pipelines.pixels import TextToVideoPipeline
from tests.conftest import TINY_MODEL, make_tiny_recipe, randomise, with_training, write_recipe
from tests.studio.browser import PLAYED, Reader, browser, server

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SAMPLING = {"num_frames": 4, "height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 2.0}
PICTURES = Path(__file__).parents[2] / "docs" / "pictures" / "studio"
INJECTED = '<img src=x onerror="window.hacked=1">, "a red\' circle'


@pytest.fixture(scope="module")
def allowed(tmp_path_factory):
    """A folder that the page may read: a model and a recipe."""
    folder = tmp_path_factory.mktemp("allowed")
    torch.manual_seed(0)
    network = randomise(build_network(TINY_MODEL), 0.02)
    made = TextToVideoPipeline(network, text_encoder="all-MiniLM-L6-v2", text_max_length=8, sampling=SAMPLING)
    made.save_pretrained(folder / "tiny")
    recipe = with_training(make_tiny_recipe(), steps=4000, checkpoint_every=4000, validate_every=2000)
    write_recipe(recipe, folder / "tiny.yaml")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def opened(place, allowed):
    with server(place, "--allow", allowed) as address, browser() as chromium:
        yield chromium, address


@pytest.fixture(scope="module")
def reader(opened):
    return Reader(*opened)


def test_the_page_in_a_browser(opened, reader, allowed, place, tmp_path, monkeypatch):
    """One story, in this order: a server and a browser take as long to start as all of it."""
    a_prompt_becomes_a_video_that_plays(reader, allowed, place)
    the_command_makes_the_same_video(reader, place, tmp_path, monkeypatch)
    stop_stops_and_the_page_answers_meanwhile(reader, allowed, place)
    for settings, options in WRONG:
        wrong_input_is_answered_as_on_the_command_line(reader, allowed, settings, options)
    two_browsers_do_not_see_each_others_files(opened, reader, allowed)
    for name in LEADING_OUT:
        no_address_leads_out_of_ones_folder(reader, name)
    a_path_outside_the_allowed_folders_is_refused(reader, tmp_path, allowed)
    an_uploads_name_is_text(reader, tmp_path)
    a_training_run_starts_shows_its_curve_stops_and_goes_on(reader, allowed)
    twenty_queued_requests_all_end(reader, allowed, opened, place)
    a_job_makes_a_video_that_another_command_goes_on_from(reader, allowed, place)
    a_clip_is_dropped_by_hand(reader, allowed, place)
    a_model_is_tuned_and_found_again(reader, place)
    every_tab_opens_without_a_fault(reader)
    the_preview_of_the_default_model_is_there_soon(reader)


#: Seconds from the button to the first preview of a model that is open; the bar is 2, on a machine with nothing else.
SOON = 2 if os.environ.get("MUYBRIDGE_PICTURES") else 10


def the_preview_of_the_default_model_is_there_soon(reader):
    page = reader.page
    page.reload()
    page.wait_for_selector(".make-generate")
    reader.fill("prompt", "dog face, fluent style")
    reader.fill("seeds", 0)  # leaves the list of models, which lies over the button while it is open
    took = 0.0
    for _ in range(2):  # the first time the model is opened
        page.wait_for_function("document.querySelector('.seen-generate img') == null")
        began = time.monotonic()
        reader.press("make-generate")
        page.wait_for_selector(".seen-generate img", timeout=120_000)
        took = time.monotonic() - began
        reader.press("stop-generate")
        reader.until("told-generate", "stopped; nothing was written")
    print(f"first preview after {took:.2f} s")
    assert took < SOON, f"the first preview took {took:.1f} s"
    if os.environ.get("MUYBRIDGE_PICTURES"):
        reader.press("make-generate")
        page.wait_for_selector(".made-generate video", timeout=300_000)
        picture(reader, "generate")


def picture(reader, name):
    if os.environ.get("MUYBRIDGE_PICTURES"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        time.sleep(1)
        reader.page.screenshot(path=PICTURES / f"{name}.png")


def made(reader, allowed, prompt, **settings):
    """Ask for a video with the tiny model; its file."""
    page = reader.page
    page.reload()
    page.wait_for_selector(".make-generate")
    reader.fill("prompt", prompt)
    reader.fill("model", allowed / "tiny")
    reader.fill("seeds", settings.pop("seeds", 0))
    if settings:
        reader.unfold()
    for field, value in settings.items():
        reader.fill(field, value)
    reader.press("make-generate")


def a_prompt_becomes_a_video_that_plays(reader, allowed, place):
    made(reader, allowed, INJECTED, seeds="3 4")
    page = reader.page
    page.wait_for_function("document.querySelectorAll('.made-generate video').length == 2", timeout=120_000)
    files = sorted(place.glob("studio/visitors/*/generate*.mp4"))
    assert len(files) == 2
    name = page.locator(".made-generate figure").first.get_attribute("data-name")
    file = next(f for f in files if f.name == name)
    seen, moves = page.locator(".made-generate video").first.evaluate(PLAYED)
    assert moves
    frames = read_video(file).frames
    for (height, width, values), frame in zip(seen, (frames[0], frames[2]), strict=True):
        shown = np.array(values, np.uint8).reshape(height, width, 4)[..., :3]
        assert shown.shape == frame.shape and np.abs(shown.astype(int) - frame).mean() < 12
    # what was typed is text, in the caption, the recipe and the command
    assert page.locator(".made-generate b").first.inner_text() == INJECTED
    assert page.evaluate("window.hacked") is None and page.locator('img[src="x"]').count() == 0
    assert reader.faults == [] and reader.elsewhere() == []


def the_command_makes_the_same_video(reader, place, tmp_path, monkeypatch):
    import shlex

    page = reader.page
    command = shlex.split(page.locator(".made-generate pre.command").first.inner_text())
    name = page.locator(".made-generate figure").first.get_attribute("data-name")
    monkeypatch.chdir(tmp_path)
    assert command[0] == "muybridge" and CliRunner().invoke(app, command[1:]).exit_code == 0
    (file,) = place.glob(f"studio/visitors/*/{name}")
    assert np.array_equal(read_video(tmp_path / name).frames, read_video(file).frames)
    recipe = page.request.get(f"{reader.address}/recipes/{name}").json()
    assert recipe["options"]["prompt"] == INJECTED and recipe["seed"] == 3


def stop_stops_and_the_page_answers_meanwhile(reader, allowed, place):
    before = set(place.glob("studio/visitors/*/*.mp4"))
    made(reader, allowed, "a blue star", num_inference_steps=1000)
    page = reader.page
    page.wait_for_selector(".seen-generate img", timeout=60_000)
    reader.tab("Learn", "The forward process")
    began = time.monotonic()
    page.wait_for_selector(".equation math >> visible=true", timeout=10_000)
    answered = time.monotonic() - began
    reader.tab("Generate", "Without training")
    reader.press("make-zero")  # waits behind the other
    time.sleep(0.5)
    reader.press("stop-zero")
    reader.until("told-zero", "stopped before it began; nothing was written")
    reader.tab("From words")
    reader.until("told-generate", "stopped; nothing was written")
    assert answered < 5, f"the page took {answered:.1f} s to answer"
    assert set(place.glob("studio/visitors/*/*.mp4")) == before
    assert not list(place.glob("studio/visitors/*/.unfinished*"))


WRONG = (
    ({"num_inference_steps": 0}, ["--steps", "0"]), ({"guidance_scale": 101}, ["--guidance-scale", "101"]),
    ({"num_inference_steps": 2.5}, ["--steps", "2.5"]),
)  # fmt: skip


def wrong_input_is_answered_as_on_the_command_line(reader, allowed, settings, options):
    told = CliRunner().invoke(app, ["generate", "a star", "--model", str(allowed / "tiny"), *options])
    assert told.exit_code == 2
    made(reader, allowed, "a star", **settings)
    reader.until("told-generate", "error")
    shown = reader.text("told-generate").strip()
    if "2.5" in options:  # typer draws a box around it
        wrong = re.search(r"'2\.5' is not a valid int(eger)?\b", " ".join(told.output.replace("│", " ").split()))
        assert "'--steps'" in shown and wrong and wrong[0] in shown
    else:
        assert shown == " ".join(told.output.split())


def two_browsers_do_not_see_each_others_files(opened, reader, allowed):
    other = Reader(*opened)
    name = "generate.mp4"
    for kind in ("files", "recipes"):
        assert reader.page.request.get(f"{reader.address}/{kind}/{name}").status == 200
        assert other.page.request.get(f"{reader.address}/{kind}/{name}").status == 404
    took = 0.0  # until the page had answered who has files: the other is given thrice as long
    for who, count in ((reader, 2), (other, 0)):
        who.page.reload()
        who.page.wait_for_selector(".make-generate")
        who.page.get_by_role("button", name="History").click()
        who.page.get_by_role("button", name="Show", exact=True).click()
        began = time.monotonic()
        if count:
            who.page.locator(".made-history figure").nth(count - 1).wait_for(state="attached", timeout=30_000)
            took = time.monotonic() - began
        time.sleep(1 + 3 * took)
        assert who.page.locator(".made-history figure").count() == count
    other.context.close()


LEADING_OUT = ("..%2F..%2Fserver.log", "%2Fetc%2Fpasswd", ".generate.mp4.command%00", "sources")


def no_address_leads_out_of_ones_folder(reader, name):
    assert reader.page.request.get(f"{reader.address}/files/{name}").status == 404
    assert reader.page.request.get(f"{reader.address}/gradio_api/file=/etc/passwd").status in (403, 404)


def a_path_outside_the_allowed_folders_is_refused(reader, tmp_path, allowed):
    (tmp_path / "secret.yaml").write_text("name: secret\n")
    link = allowed / "link.yaml"
    link.symlink_to(tmp_path / "secret.yaml")
    reader.tab("Train")
    for path in (tmp_path / "secret.yaml", link, allowed / ".." / "x", Path("/etc/passwd")):
        reader.page.get_by_label("recipe").locator("visible=true").first.fill(str(path))
        reader.press("open-recipe")
        reader.until("told-train", f"{path} lies outside the folders")
    assert "secret" not in reader.page.locator(".recipe-text").inner_text()
    link.unlink()
    reader.tab("Generate")
    reader.fill("prompt", "a star")
    reader.fill("model", tmp_path)
    reader.press("make-generate")
    reader.until("told-generate", "lies outside the folders")


def an_uploads_name_is_text(reader, tmp_path):
    name = '<img src=x onerror="window.hacked=1">.png'
    from PIL import Image

    Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    reader.tab("Bring a picture to life")
    reader.page.locator(".image-animate input[type=file]").first.set_input_files(tmp_path / name)
    time.sleep(1)
    assert reader.page.evaluate("window.hacked") is None and reader.page.locator('img[src="x"]').count() == 0


def a_training_run_starts_shows_its_curve_stops_and_goes_on(reader, allowed):
    page = reader.page
    reader.tab("Train")
    reader.page.get_by_label("recipe").locator("visible=true").first.fill(str(allowed / "tiny.yaml"))
    reader.press("open-recipe")
    reader.until("recipe-text", "name: tiny")
    page.locator(".run-name input, .run-name textarea").first.fill("first")
    reader.press("train-start")
    page.wait_for_selector(".watched-train svg.curve polyline", timeout=90_000)
    picture(reader, "train")
    reader.press("train-stop")
    reader.until("watched-train", "cancelled", 60)
    reader.until("watched-train", "run the same command again to go on", 10)
    reader.press("train-start")
    reader.until("watched-train", "going on from step", 90)
    assert "running" in reader.text("watched-train")
    reader.press("train-stop")
    reader.until("watched-train", "cancelled", 60)


def twenty_queued_requests_all_end(reader, allowed, opened, place):
    from gradio_client import Client

    cookies = {c["name"]: c["value"] for c in reader.context.cookies()}
    before = len(list(place.glob("studio/visitors/*/generate*.mp4")))
    client = Client(opened[1], headers={"cookie": f"muybridge={cookies['muybridge']}"}, verbose=False)
    about = client.view_api(return_format="dict")["named_endpoints"]["/make"]["parameters"]
    values = {p["parameter_name"]: p["parameter_default"] for p in about if p["parameter_has_default"]}
    names = [p["parameter_name"] for p in about]
    by_label = {p["label"]: p["parameter_name"] for p in about}
    values |= dict.fromkeys([n for n in names if n not in values], "")
    values |= {
        by_label["prompt"]: "a star",
        by_label["model"]: str(allowed / "tiny"),
        by_label["seeds"]: "5",
        by_label["steps"]: "1",
    }
    jobs = [client.submit(**values, api_name="/make") for _ in range(20)]
    ends = [job.result(timeout=120) for job in jobs]
    assert all("figure" in end[2] for end in ends), [end[0] for end in ends]
    assert len(list(place.glob("studio/visitors/*/generate*.mp4"))) == before + 20


def a_job_makes_a_video_that_another_command_goes_on_from(reader, allowed, place):
    page = reader.page
    page.reload()
    page.wait_for_selector(".make-generate")
    reader.fill("prompt", "a red circle")
    reader.fill("model", allowed / "tiny")
    reader.press("later-generate")
    reader.until("told-generate", "is queued")
    name = re.search(r"generate-[0-9a-f]{8}\.mp4", reader.text("told-generate"))[0]
    page.get_by_role("button", name="Jobs").click()
    page.wait_for_function(
        "name => [...document.querySelectorAll('.board-jobs tr')].some(r => r.innerText.includes(name) && "
        "r.innerText.includes('finished'))", arg=name, timeout=90_000,
    )  # fmt: skip
    assert list(place.glob(f"studio/visitors/*/{name}"))
    reader.tab("Longer and smoother", "Extend")
    reader.choose("own-video-extend", name)
    reader.fill("model", allowed / "tiny")
    reader.fill("add_frames", 2)
    reader.press("make-extend")
    page.wait_for_selector(".made-extend video", timeout=90_000)
    (longer,) = place.glob("studio/visitors/*/extend.mp4")
    (file,) = place.glob(f"studio/visitors/*/{name}")
    assert len(read_video(longer).frames) == len(read_video(file).frames) + 2


def a_clip_is_dropped_by_hand(reader, allowed, place):
    write_film(allowed / "footage" / "film.mp4", film(0, shots=2))
    page = reader.page
    reader.tab("Curate")
    page.get_by_label("footage").locator("visible=true").first.fill(str(allowed / "footage"))
    reader.unfold()
    reader.fill("min_seconds", 1)
    manifest, kept = None, []
    for wanted in (0, 1):  # before a decision by hand, and after it
        page.get_by_role("button", name="Curate", exact=True).click()
        reader.until("watched-curate", "--decisions" if wanted else "curate run", 30)  # the newest job's command
        reader.until("watched-curate", ": finished", 90)
        (manifest,) = place.glob("studio/visitors/*/clips/my-clips/manifest.parquet")
        rows = [row for row in pq.read_table(manifest).to_pylist() if row["clip_id"]]
        kept.append({row["clip_id"] for row in rows if row["keep"]})
        assert sum(row["reasons"] == ["by hand: dropped"] for row in rows) == wanted
        if not wanted:
            reader.press("show-clips")
            page.locator(".ticked-clips input:checked").first.click()
            picture(reader, "curate")
            reader.press("decide-clips")
            reader.until("told-clips", "1 clips decided otherwise")
            page.get_by_label("name of the clips").fill("my-clips")
    assert len(kept[0]) == len(kept[1]) + 1 and kept[1] < kept[0]


def a_model_is_tuned_and_found_again(reader, place):
    reader.tab("Edit a video", "Tune a model")
    reader.choose("own-video-tune", "generate.mp4")
    reader.fill("caption", "a star")
    reader.fill("train_steps", 1)
    reader.unfold()
    for field, value in (("num_frames", 2), ("steps", 1), ("iterations", 1)):
        reader.fill(field, value)
    reader.press("tune-start")
    reader.until("watched-tune", "finished", 120)
    (model,) = place.glob("studio/visitors/*/tuned/my-video/model")
    reader.tab("A tuned model")
    reader.choose("tuned-model", str(model))


def every_tab_opens_without_a_fault(reader):
    page = reader.page
    page.set_viewport_size({"width": 1280, "height": 800})
    for tab in page.get_by_role("tab").all_inner_texts():
        if page.get_by_role("tab", name=tab, exact=True).first.is_visible():
            page.get_by_role("tab", name=tab, exact=True).first.click()
            if tab not in ("Train", "Generate", "Curate"):  # their pictures are those of a run and of a video
                picture(reader, tab.lower().replace(" ", "-"))
    assert reader.faults == [] and reader.elsewhere() == []
