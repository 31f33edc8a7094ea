"""What the page's buttons do, asked without a browser: as a program would that speaks to the page."""

import os
from types import SimpleNamespace

import gradio as gr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muybridge.curation.select import read_decisions
from muybridge.errors import UserError
from muybridge.jobs.queue import Queue
from muybridge.making.replay import MAKINGS
from muybridge.studio import clips_board, making_tabs, work
from muybridge.studio.making_tabs import Panel
from muybridge.studio.page import Page
from muybridge.studio.running import Event
from muybridge.studio.server import serve
from muybridge.studio.train_tab import Train
from muybridge.studio.tune_panel import Tune
from muybridge.studio.visits import COOKIE, Studio, new_token

RECIPE = "name: a\nsystem: vdm\ndata: {{source: folder, path: {}}}\ntraining: {{start_from: {}}}\n"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A page, a visitor of it, and their requests; the page runs in a folder of its own."""
    for name in ("here", "allowed", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "x.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MUYBRIDGE_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setattr(work, "ensure_runner", lambda queue: None)
    page = Page(Studio(tmp_path / "studio", (tmp_path / "allowed",)))
    request = SimpleNamespace(cookies={COOKIE: new_token()})
    return SimpleNamespace(page=page, request=request, visitor=page.visitor(request))


@pytest.fixture
def panel(asked):
    with gr.Blocks():
        return Panel(asked.page, MAKINGS["generate"])


def filled(panel, **values):
    given = dict.fromkeys(panel.order, "") | {f.name: f.default for f in panel.fields}
    return given | {"prompt": "a star", "seeds": "0", "ending": "mp4"} | values


@pytest.mark.parametrize("how", ["{}", "\n{}", "  {}\n", "{0}\n{0}:0.5", "a star\n{}"])
def test_no_line_of_a_box_leads_out(asked, panel, tmp_path, how):
    text = how.format(tmp_path / "outside" / "x.safetensors")
    with pytest.raises(UserError, match="outside the folders"):
        panel.arguments(asked.visitor, filled(panel, lora=text), 0)


def test_the_answer_to_stop_is_never_over_what_the_stopped_one_says(asked):
    with gr.Blocks() as blocks:
        panel = Panel(asked.page, MAKINGS["generate"])
    stops = [f for f in blocks.fns.values() if f.fn is not None and f.fn.__name__ == panel.stop.__name__]
    assert [f.outputs for f in stops] == [[]]


def test_a_job_runs_where_its_paths_were_checked(asked, panel, tmp_path):
    panel.later(asked.request, *filled(panel).values())
    (job,) = Queue().jobs(asked.visitor.name)
    assert job.directory == str(tmp_path / "here")
    relative = os.path.relpath(tmp_path / "outside")
    with pytest.raises(UserError, match="outside the folders"):
        panel.arguments(asked.visitor, filled(panel, model=relative), 0)


def test_tuning_takes_ones_own_video_and_no_model_from_elsewhere(asked, tmp_path):
    with gr.Blocks():
        tune = Tune(asked.page)
    (asked.visitor.folder / "generate.mp4").write_bytes(b"")
    given = dict.fromkeys(tune.order, "") | {f.name: f.default for f in tune.fields}
    given |= {"own video": "generate.mp4", "video": None, "caption": "a star"}
    with pytest.raises(UserError, match="outside the folders"):
        tune.start(asked.request, "mine", *(given | {"model": str(tmp_path / "outside")}).values())
    tune.start(asked.request, "mine", *given.values())
    (job,) = Queue().jobs(asked.visitor.name)
    assert job.arguments[-1] == str(asked.visitor.folder / "generate.mp4") and "a star" in job.arguments


def test_a_recipe_leads_nowhere_else(asked, tmp_path):
    with gr.Blocks():
        train = Train(asked.page)
    outside = os.path.relpath(tmp_path / "outside")
    for text in (RECIPE.format(outside, "x"), RECIPE.format(tmp_path / "allowed", outside)):
        with pytest.raises(UserError, match="outside the folders"):
            train._written(asked.visitor, text, "a")
    train.start(asked.request, RECIPE.format("../allowed", "nothing"), "a")
    (job,) = Queue().jobs(asked.visitor.name)
    assert job.directory == str(tmp_path / "here")


def test_a_recipe_that_waits_is_not_written_over(asked):
    with gr.Blocks():
        train = Train(asked.page)
    train.start(asked.request, RECIPE.format("../allowed", "one"), "a")
    with pytest.raises(UserError, match="a waits in the queue"):
        train.plan(asked.request, RECIPE.format("../allowed", "two"), "a")
    assert "one" in (asked.visitor.folder / "recipes" / "a.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "steps", "told"),
    [
        ("data: 5", "", "data: expected keys and values, got int 5"), ("training: [1]", "3", "training: expected keys"),
        ("name: a", "[", "steps: expected a whole number"), ("name: a", "1.5", "steps: expected a whole number"),
        ("5", "", "recipe: expected keys and values"), ("[", "", "recipe: not a readable YAML"),
    ],
)  # fmt: skip
def test_a_recipe_of_another_shape_is_told_so(asked, tmp_path, text, steps, told):
    with gr.Blocks():
        train = Train(asked.page)
    _, shown = train.put(asked.request, text, str(tmp_path / "allowed"), steps)
    assert told in shown and "studio" not in shown


def test_no_path_is_said_to_be_none(asked):
    for text in ("", "  ", "a\0b"):
        with pytest.raises(UserError, match="no recipe: expected a path"):
            asked.visitor.check_path(text, "recipe")


def test_the_pages_folder_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="--folder .*; give another"):
        serve(tmp_path / "file", (), 0)


def test_stop_holds_for_what_waits_and_for_further_seeds(asked, panel, monkeypatch):
    begun = []

    def watch(arguments, watched):
        begun.append(arguments)
        panel.stop(asked.request, 20.0)
        yield Event("end", code=1)

    monkeypatch.setattr(making_tabs, "watch", watch)
    values = list(filled(panel, seeds="1 2 3").values())
    told = [seen[0] for seen in panel.make(asked.request, 10.0, *values)]
    assert len(begun) == 1 and "stopped before it began" in told[-1]
    assert "stopped before it began" in list(panel.make(asked.request, 19.0, *values))[-1][0] and len(begun) == 1
    list(panel.make(asked.request, 21.0, *values))
    assert len(begun) == 4  # asked for after it: all three begin


@pytest.fixture
def board(asked, monkeypatch):
    """Two curations of the same name's shape, with two clips each, the second of which was dropped."""
    for name in ("one", "two"):
        folder = asked.visitor.new_folder("clips", name)
        folder.mkdir(parents=True)
        about = {"source_id": "s", "path": "film.mp4", "start": 0.0, "end": 1.0}
        rows = [
            {"clip_id": f"{name}{i}", "keep": i == 0, "reasons": [] if i == 0 else ["dark"], **about} for i in (0, 1)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    monkeypatch.setattr(clips_board, "_figures", lambda output, clips: "")
    with gr.Blocks():
        return clips_board.ClipsBoard(asked.page, gr.Textbox("one"))


def decided(asked, name):
    return read_decisions(str(clips_board.decisions_of(asked.visitor, name)))


def test_a_box_that_is_put_back_decides_nothing(asked, board):
    _, boxes, seen, _ = board.show(asked.request, "one", "all", 1)
    assert boxes.value == ["one0"]
    board.decide(asked.request, "one", seen, ["one0", "one1"])
    assert decided(asked, "one") == {"one1": "keep"}
    _, boxes, again, _ = board.show(asked.request, "one", "all", 1)
    assert boxes.value == ["one0", "one1"]  # as it was decided, whether or not it was followed yet
    board.decide(asked.request, "one", again, [])
    assert decided(asked, "one") == {"one0": "drop", "one1": "drop"}
    board.decide(asked.request, "one", seen, ["one0"])
    assert decided(asked, "one") == {}


def test_a_decision_is_of_the_clips_that_are_shown(asked, board):
    seen = board.show(asked.request, "one", "all", 1)[2]
    with pytest.raises(UserError, match="shown are of one, not of two"):
        board.decide(asked.request, "two", seen, [])
    assert not clips_board.decisions_of(asked.visitor, "two").exists()
