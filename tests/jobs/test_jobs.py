"""The queue tells the truth of its jobs whatever happens to them or to the process that runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.errors import UserError
from muybridge.files import write_json
from muybridge.jobs import queue as jobs_queue
from muybridge.jobs.queue import BEGUN, END, Queue
from muybridge.jobs.runner import see_to, work_off
from muybridge.locks import lock_to_hand_on

#: Stands in for a long command: tells of itself, then waits until it is interrupted.
LONG = """
import signal, sys, time
from pathlib import Path
from muybridge.files import write_json
signal.signal(signal.SIGINT, signal.default_int_handler)
import os
folder = Path(sys.argv[1])
write_json(folder / "process.json", {"process": os.getpid()})
print("working", flush=True)
code = 130
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    write_json(folder / "end.json", {"code": code})
"""
STUBBORN = LONG.replace("signal.default_int_handler", "signal.SIG_IGN")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_JOBS", str(tmp_path / "jobs"))
    return Queue()


@pytest.fixture
def long_work(tmp_path, monkeypatch):
    """Jobs run a script in place of a command; returns how to choose it."""

    def choose(code):
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "long_work.py").write_text(code)
        monkeypatch.setattr("muybridge.jobs.runner.WORK", "long_work")
        paths = [str(tmp_path / "code"), str(Path(__file__).parents[2])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    return choose


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


def in_background(queue, patience="60"):
    """A runner in a process of its own, as `ensure_runner` starts it, with the work of this test."""
    code = (
        "import sys; from pathlib import Path\n"
        "from muybridge.jobs import runner; from muybridge.jobs.queue import Queue\n"
        "runner.WORK = 'long_work'; runner.see_to.__defaults__ = (float(sys.argv[2]),)\n"
        "runner.work_off(Queue(Path(sys.argv[1])))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(queue.folder), patience], start_new_session=True)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_jobs_run_one_after_another_and_say_how_they_ended(queue, tmp_path):
    good = queue.add(["--version"], tmp_path)
    bad = queue.add(["generate", "a dog", "--steps", "0"], tmp_path)
    lost = queue.add(["--version"], tmp_path / "gone")
    assert [job.state for job in queue.jobs()] == ["queued"] * 3
    work_off(queue)
    assert [job.state for job in (good, bad, lost)] == ["finished", "failed", "failed"]
    assert good.code == 0 and bad.code == 2 and lost.code == 2
    assert "num_inference_steps must be in 1..1000, got 0" in bad.log()
    assert "gone" in lost.log()
    listed = run("jobs").output
    assert listed.index(good.name) < listed.index(bad.name) < listed.index(lost.name)


def test_added_on_the_command_line_a_job_outlives_it(queue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "muybridge.cli.main", "jobs", "add", "plan", "none.yaml"],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    job = queue.job(done.stdout.partition(":")[0])
    until(lambda: job.state not in ("queued", "running"), 60)
    shown = run("jobs", "show", job.name, "--follow")
    assert job.state == "failed" and shown.exit_code == job.code == 2 and "none" in shown.output


@pytest.mark.parametrize(("arguments", "said"), [
    (["generate", "x", "--steps", "many"], "--steps"), (["generat", "x"], "No such command"),
    (["train"], "Missing argument"), (["jobs", "run"], "no long work"), (["-x"], "No such option"),
    (["curate"], "its command is missing"), (["generate", "--help"], "asks for no work"),
])  # fmt: skip
def test_what_cannot_run_is_refused_at_once(queue, arguments, said):
    done = run("jobs", "add", *arguments)
    assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output
    assert queue.jobs() == []


def test_cancelling_interrupts_what_runs_and_drops_what_waits(queue, tmp_path, long_work):
    long_work(LONG)
    first, second = queue.add(["one"], tmp_path), queue.add(["two"], tmp_path)
    runner = in_background(queue)
    until(lambda: "working" in first.log())
    assert (first.state, second.state) == ("running", "queued")
    with pytest.raises(UserError, match="cancel it first"):
        first.remove()
    second.stop()
    assert second.state == "cancelled"
    first.stop()
    assert runner.wait(20) == 0
    assert first.state == "cancelled" and "interrupted" in first.log() and first.code == 130
    assert not (second.folder / BEGUN).exists()
    first.remove()
    assert [job.name for job in queue.jobs()] == [second.name]


def test_one_that_does_not_listen_is_killed(queue, tmp_path, long_work):
    long_work(STUBBORN)
    job = queue.add(["one"], tmp_path)
    runner = in_background(queue, patience="0.5")
    until(lambda: "working" in job.log())
    job.stop()
    assert runner.wait(20) == 0 and job.state == "cancelled" and job.code is None


def test_a_killed_job_is_called_killed(queue, tmp_path, long_work):
    long_work(LONG)
    job, other = queue.add(["one"], tmp_path), queue.add(["two"], tmp_path)
    runner = in_background(queue)
    until(lambda: "working" in job.log())
    os.kill(job.process, signal.SIGKILL)
    until(lambda: other.state == "running")
    assert job.state == "killed" and job.code is None
    other.stop()
    assert runner.wait(20) == 0


def test_a_killed_runner_leaves_its_job_running_and_the_next_one_sees_to_it(queue, tmp_path, long_work):
    long_work(LONG)
    job, waiting = queue.add(["one"], tmp_path), queue.add(["two"], tmp_path)
    first = in_background(queue)
    until(lambda: "working" in job.log())
    first.kill()
    first.wait()
    assert (job.state, waiting.state) == ("running", "queued")
    second = in_background(queue)
    time.sleep(0.5)
    assert (job.state, waiting.state) == ("running", "queued"), "two jobs at once"
    job.stop()
    until(lambda: waiting.state == "running")
    assert job.state == "cancelled" and job.log().count("working") == 1
    waiting.stop()
    assert second.wait(20) == 0


def test_begun_but_never_ended_is_killed_and_what_waits_is_still_queued(queue, tmp_path):
    job = queue.add(["--version"], tmp_path)
    handle = lock_to_hand_on(job.folder)
    assert job.state == "running"  # the runner has it, whatever it has written yet
    write_json(job.folder / BEGUN, {})
    os.close(handle)
    assert job.state == "killed"
    write_json(job.folder / END, {"code": 0})
    assert job.state == "finished"


def test_a_runner_that_finds_another_leaves(queue, tmp_path):
    job = queue.add(["--version"], tmp_path)
    handle = lock_to_hand_on(queue.folder)
    work_off(queue)
    assert job.state == "queued"
    os.close(handle)
    work_off(queue)
    assert job.state == "finished"


def test_progress_is_told_to_the_file(tmp_path, monkeypatch):
    from muybridge.cli.console import steps_bar

    monkeypatch.setenv("MUYBRIDGE_PROGRESS", str(tmp_path / "progress.json"))
    with steps_bar("sampling", 3) as advance:
        advance(None)
        assert json.loads((tmp_path / "progress.json").read_text()) == {"done": 1, "total": 3, "what": "sampling"}
        advance(None)
        advance(None)
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 3


@pytest.mark.parametrize("name", ["../x", "20261126-210000-abcdef/../../x", "/etc", "", "20261126-210000-abcdeg"])
def test_no_name_leads_out_of_the_folder(queue, tmp_path, name):
    (tmp_path / "x").mkdir()
    write_json(tmp_path / "x" / "job.json", {"arguments": [], "directory": "/", "added": 0, "owner": ""})
    (queue.folder / "20261126-210000-abcdef").mkdir(parents=True)
    for done in (run("jobs", "show", name), run("jobs", "remove", name), run("jobs", "cancel", name)):
        assert done.exit_code == 2 and "no job" in done.output
    assert (tmp_path / "x").is_dir()


def test_owners_see_their_own(queue, tmp_path):
    mine, theirs = queue.add(["--version"], tmp_path, "me"), queue.add(["--version"], tmp_path, "them")
    assert [job.name for job in queue.jobs("me")] == [mine.name]
    with pytest.raises(UserError, match="no job"):
        queue.job(theirs.name, owner="me")


def test_nothing_of_a_log_steers_the_terminal(queue, tmp_path):
    job = queue.add(["--version"], tmp_path)
    (job.folder / jobs_queue.LOG).write_bytes(b"\x1b[31mred\x1b]0;title\x07\n\xff")
    see_to(job)
    shown = run("jobs", "show", job.name).output
    assert "\x1b" not in shown and "\x07" not in shown and "red" in shown


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}"])
def test_a_damaged_job_holds_up_no_other(queue, tmp_path, damaged):
    bad, good = queue.add(["data", "list"], tmp_path), queue.add(["doctor"], tmp_path)
    (bad.folder / "job.json").write_text(damaged)
    (good.folder / "progress.json").write_text(damaged)
    assert [job.name for job in queue.jobs()] == [good.name] and queue.next() == good and not good.progress
    done = run("jobs", "show", bad.name)
    assert done.exit_code == 2 and "job.json" in done.output
