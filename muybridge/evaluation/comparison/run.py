"""The whole comparison: a process a model, one page in the end. The same command goes on after an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.evaluation.comparison.drawing import DONE, Task
from muybridge.evaluation.comparison.figures import data_of, read_rows, reference_of, summary
from muybridge.evaluation.comparison.page import write_page
from muybridge.evaluation.comparison.settings import Comparison
from muybridge.files import check_own_folder, read_mapping, write_json
from muybridge.jobs.runner import environment
from muybridge.library.catalogue import find_model, find_part, parameters_in
from muybridge.library.index import settings_of
from muybridge.locks import locked

RUN, MAKER = "compare.json", "muybridge compare"


def names_of(models: tuple[str, ...]) -> list[str]:
    """A folder's name for every model: its own, or that of the run it is in.

    Raises:
        UserError: fewer than two, one twice, or two of the same name.
    """
    paths = [Path(m).expanduser() for m in models]
    paths = [p.resolve() if p.is_dir() else p for p in paths]  # `.` and `..` have names too
    names = [p.parent.name if p.is_dir() and p.name == "model" else p.name for p in paths]
    if len(models) < 2:
        raise UserError("compare: give two models or more")
    double = next((n for n in names if names.count(n) > 1), None)
    if double is not None:
        raise UserError(f"compare: {double} is given twice, or two folders have this name; rename one")
    return names


def compare(
    models: tuple[str, ...], prompts: tuple[str, ...], output: Path, told: Comparison, device: str,
    tell: Callable[[str, int, int], None],
) -> Path:  # fmt: skip
    """Draw what is not there yet, measure, and write index.html and figures.json.

    Args:
        tell: (model, videos done, videos in all).

    Raises:
        UserError: an unknown model or scorer, a model that cannot draw from captions, a folder of other things, or one
            of another comparison.
    """
    names = names_of(models)
    for model in (*models, told.picture_model):
        find_model(model)
    if told.scorer:
        find_part(told.scorer)
    if told.reference:
        data_of(told.reference)  # before hours of drawing
    # what decides over the videos; scorer and reference only look at them, but rows hold the scorer's embeddings
    wanted = {"made by": MAKER, "prompts": list(prompts), "seed": told.seed, "steps": told.steps, "scorer": told.scorer}
    _check(output, wanted)
    with locked(output, "comparing") as sign:
        write_json(output / RUN, wanted)
        sign()
        for name, model in zip(names, models, strict=True):
            task = Task(
                model, str(output / name), prompts, told.seed, told.steps, told.picture_model, told.scorer, device
            )
            _draw(task, output / f".{name}.task.json", partial(tell, name))
        rows = {name: read_rows(output / name)[: len(prompts)] for name in names}
        figures = _figures(dict(zip(names, models, strict=True)), rows, prompts, told)
        write_json(output / "figures.json", figures)
        return write_page(output / "index.html", figures, rows, prompts)


def _check(output: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder of other things, or one of other captions."""
    if (output / RUN).is_file():
        there = read_mapping(output / RUN)
        other = [name for name, value in wanted.items() if there.get(name) != value]
        if other:
            raise UserError(f"{output}: holds a comparison with other {', '.join(other)}; give another --output")
        return
    check_own_folder(output, "a comparison", lambda: next((p.name for p in output.iterdir()), None))


def _draw(task: Task, file: Path, tell: Callable[[int, int], None]) -> None:
    """One model, in a process of its own."""
    write_json(file, asdict(task))
    command = [sys.executable, "-m", "muybridge.evaluation.comparison.drawing", str(file)]
    with tempfile.TemporaryFile("w+") as said:  # a pipe that nobody empties would stop the child once it is full
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment())
        assert child.stdout is not None
        try:
            for line in child.stdout:
                if line.startswith(DONE):
                    tell(int(line.split()[1]) + 1, len(task.prompts))
            if child.wait():
                said.seek(0)
                lines = [line for line in said.read().strip().splitlines() if line]
                why = lines[-1].removeprefix("error: ") if lines else "its process was killed"
                raise UserError(f"{task.model}: {why}")
        finally:
            child.kill()
            child.wait()
            file.unlink(missing_ok=True)


def _figures(
    models: dict[str, str], rows: dict[str, list[dict[str, Any]]], prompts: tuple[str, ...], told: Comparison
) -> dict[str, Any]:
    words = reference = None
    figures: dict[str, Any] = {}
    if told.scorer:
        from muybridge.models.text.scorers import open_scorer

        words = open_scorer(find_part(told.scorer)).embed_texts(prompts).numpy()
    if told.reference:
        size = next(iter(rows.values()))[0]["size"]
        reference, figures["real clips"] = reference_of(told.reference, size)
    for name, model in models.items():
        folder = find_model(model)
        picture = settings_of(folder).get("image")
        own, behind = parameters_in(folder), parameters_in(find_model(str(picture))) if picture else 0
        figures[name] = summary(rows[name], words, reference) | {
            "parameters": own + behind, "of its own": 0 if rows[name][0]["way"] == "zero" else own,
            "training hours": training_hours(folder),
        }  # fmt: skip
    return figures


def training_hours(folder: Path) -> float | None:
    """Of the logs that lie in a model's folder or its run: steps times what each took; None without a log."""
    logs = sorted(folder.glob("log*.jsonl")) or sorted(folder.parent.glob("log.jsonl"))
    seconds = 0.0
    for log in logs:
        last = 0
        for line in log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "seconds_per_step" in row and np.isfinite(row["seconds_per_step"]):
                seconds += max(0, row["step"] - last) * row["seconds_per_step"]
                last = row["step"]
    return seconds / 3600 if seconds else None
