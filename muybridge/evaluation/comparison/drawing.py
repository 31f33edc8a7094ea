"""One model's videos of given captions, each measured as it is drawn; in a process of its own, so that the peak memory
is this model's alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import read_mapping, write_json
from muybridge.making.base import Making, Run, open_pipeline
from muybridge.making.from_words import Animate, Generate, Zero
from muybridge.making.record import check_made_so, record_of

#: What the parent reads: a line a finished video.
DONE = "done"


@dataclass(frozen=True)
class Task:
    """One model's part of a comparison.

    Attributes:
        model: a bundled one or a folder.
        folder: where its videos and figures go.
        prompts: a video each; video i has seed + i.
        steps: sampling steps in place of the model's own; 0 for those.
        picture_model: draws the first frame for a model that is told a picture and no words.
        scorer: an image-text scorer's folder or name; "" for none.
    """

    model: str
    folder: str
    prompts: tuple[str, ...]
    seed: int
    steps: int
    picture_model: str
    scorer: str
    device: str


class Drawer:
    """The opened model, and how it draws from a caption: from words, without training, or from a picture of words.

    Raises:
        UserError: a model that does neither.
    """

    def __init__(self, task: Task):
        self.task, self.folder = task, Path(task.folder)
        self.settings: dict[str, Any] = {"num_inference_steps": task.steps or None}
        self.pictures: Any = None
        self.pipeline = open_pipeline(Generate(prompt=""), task.model, task.device, "fp32")
        if self.pipeline.draws_from_words and self.pipeline.settings().num_frames == 1:
            self.pipeline = None  # two at once would be the peak
            self.pipeline = open_pipeline(Zero(prompt=""), task.model, task.device, "fp32")
            self.way, self.settings = "zero", {**Zero.defaults, **self.settings}
        elif self.pipeline.draws_from_words:
            self.way = "generate"
        elif self.pipeline.animates_pictures:
            self.way = "animate"
            self.pictures = open_pipeline(Generate(prompt=""), task.picture_model, task.device, "fp32")
        else:
            raise UserError(f"{task.model}: draws neither from words nor from a picture of them; leave it out")

    def making(self, prompt: str) -> Making:
        """The command that draws a caption."""
        return {"zero": Zero(prompt=prompt), "generate": Generate(prompt=prompt), "animate": Animate()}[self.way]

    def run(self, index: int) -> Run:
        """Of one video, its first frame drawn where the model needs one."""
        from muybridge.data.video_io import read_video

        run = Run(self.pipeline, self.task.model, self.task.seed + index, self.settings, read=read_video)
        if self.way == "animate":
            run.source = str((self.folder / f"{index:04d}.picture.png").resolve())
        return run

    def draw_picture(self, index: int) -> None:
        """The first frame, with its record."""
        from muybridge.data.video_io import write_video

        run = Run(self.pictures, self.task.picture_model, self.task.seed + index, self.settings)
        made = Generate(prompt=self.task.prompts[index]).make(run)
        write_video(made.frames, self.folder / f"{index:04d}.picture.png", made.fps, made.record)

    @property
    def evaluations(self) -> int:
        """Of all networks so far."""
        return self.pipeline.evaluations + (self.pictures.evaluations if self.pictures is not None else 0)


def is_there(drawer: Drawer, index: int) -> bool:
    """Whether a video and its figures are there already, made with this very record.

    Raises:
        UserError: it is there with another one.
    """
    from muybridge.data.video_io import read_recipe

    video = drawer.folder / f"{index:04d}.mp4"
    if not video.is_file() or not video.with_suffix(".json").is_file():
        return False
    run = drawer.run(index)
    found = read_recipe(video)
    wanted = record_of(drawer.making(drawer.task.prompts[index]), run, drawer.pipeline.settings(**run.settings))
    if drawer.way != "generate":  # the sampler and the picture are the command's own
        keys = ("command", "options", "model", "model_hash", "seed")
        found, wanted = ({k: record.get(k) for k in keys} for record in (found, wanted))
    check_made_so(video, {k: v for k, v in found.items() if not k.startswith("source")}, wanted, "--output")
    return True


def draw(task: Task) -> Iterator[int]:
    """Draw and measure what is not there yet; the number of each finished video.

    Raises:
        UserError: a model that cannot draw from captions, or settings that it does not take.
    """
    from muybridge.data.video_io import write_video
    from muybridge.evaluation.comparison.figures import Measurer
    from muybridge.pipelines.peak import peak_bytes

    drawer, measurer = Drawer(task), None
    drawer.folder.mkdir(parents=True, exist_ok=True)
    for index, prompt in enumerate(task.prompts):
        if not is_there(drawer, index):
            before, began = drawer.evaluations, time.perf_counter()
            if drawer.way == "animate":
                drawer.draw_picture(index)
            made = drawer.making(prompt).make(drawer.run(index))
            row = {"prompt": prompt, "way": drawer.way, "seconds": time.perf_counter() - began}
            row["evaluations"] = drawer.evaluations - before
            if measurer is None:  # what measures opens networks of its own, behind the first video's peak
                row["peak"] = peak_bytes(drawer.pipeline.device)
                measurer = Measurer(task.scorer)
            write_json(drawer.folder / f"{index:04d}.json", row | measurer.measured(made.frames, made.fps))
            write_video(made.frames, drawer.folder / f"{index:04d}.mp4", made.fps, made.record)
        yield index


def main() -> None:
    """The child's side: the task as a JSON file; a line a finished video, an error as on the command line."""
    told = read_mapping(Path(sys.argv[1]))
    try:
        for index in draw(Task(**{**told, "prompts": tuple(told["prompts"])})):
            print(DONE, index, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
