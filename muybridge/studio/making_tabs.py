"""Tabs in which videos are made: each command's form, its preview, its stop button, its results; and the history."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from muybridge.errors import UserError
from muybridge.files import write_text
from muybridge.making.base import Making
from muybridge.making.replay import MAKINGS
from muybridge.studio import shown, work
from muybridge.studio.forms import arguments_of, fields_of_making, shown_command, sources_of
from muybridge.studio.inputs import Sources, component
from muybridge.studio.page import AT_ONCE, AT_WORK, Page, answering
from muybridge.studio.running import Watched, run_whole, watch
from muybridge.studio.tune_panel import Tune
from muybridge.studio.visits import Visitor

#: Tab -> what its panels are called and the commands behind them.
TABS: dict[str, dict[str, str]] = {
    "Generate": {"From words": "generate", "Without training": "zero"},
    "Bring a picture to life": {"Animate": "animate", "A part of it": "cinemagraph"},
    "Edit a video": {
        "Keep its structure": "control", "Another look": "restyle", "By instruction": "instruct",
        "A tuned model": "edit", "Paint over a part": "inpaint", "Paint around it": "outpaint",
    },
    "Longer and smoother": {
        "Extend": "extend", "Loop": "loop", "Connect two": "connect", "Become another": "blend",
        "Frames between": "interpolate", "Learned frames between": "upsample-fps", "Larger": "upscale",
        "Larger by guidance": "super-resolve",
    },
}  # fmt: skip
#: Settings beside the prompt that are not folded away.
FIRST = (
    "prompt", "instruction", "content", "model", "control", "add_frames", "factor", "structure_level", "mask", "region",
    "left", "right", "space", "time",
)  # fmt: skip
ENDINGS = ("mp4", "gif", "webp", "png")
#: Puts the time into an event's first value.
NOW = "(_, ...values) => [Date.now(), ...values]"
#: A panel's seeds at most: each is a video.
MOST_SEEDS = 16


def add(page: Page) -> None:
    """All tabs in which videos are made."""
    for tab, panels in TABS.items():
        with gr.Tab(tab):
            with gr.Tabs():
                for label, command in panels.items():
                    with gr.Tab(label):
                        Panel(page, MAKINGS[command])
                if tab == "Edit a video":
                    with gr.Tab("Tune a model"):
                        Tune(page)
            if tab == "Generate":
                History(page)


class Panel:
    """One command's form."""

    def __init__(self, page: Page, cls: type[Making]):
        self.page, self.cls = page, cls
        self.fields = fields_of_making(cls)
        gr.Markdown((cls.__doc__ or "").split("\n\n")[0])
        with gr.Row():
            with gr.Column():
                inputs = self._inputs()
                with gr.Row():
                    start = gr.Button("Make", variant="primary", elem_classes=[f"make-{cls.command}"])
                    stop = gr.Button("Stop", elem_classes=[f"stop-{cls.command}"])
                    later = gr.Button("Make it as a job", elem_classes=[f"later-{cls.command}"])
            with gr.Column():
                told, seen, made = (gr.HTML(elem_classes=[f"{n}-{cls.command}"]) for n in ("told", "seen", "made"))
        asked = gr.Number(0, visible=False)  # when a button was pressed, by the browser's clock
        start.click(self.make, [asked, *inputs], [told, seen, made], **AT_WORK, show_progress="hidden", js=NOW)
        # told by the browser: an answer of ours could come behind, and over, what the stopped command says at its end
        stop.click(None, None, told, js=f"() => [{json.dumps(shown.said(['stopping']))}]")
        stop.click(self.stop, asked, None, **AT_ONCE, js=NOW)
        later.click(answering(self.later), inputs, told, **AT_ONCE)

    def _inputs(self) -> list[Any]:
        """Sources, seeds and ending, then a component a field."""
        self.sources = Sources(self.page, sources_of(self.cls), self.cls.command)
        made: dict[str, Any] = dict(self.sources.components)
        for one in sorted(self.fields, key=lambda f: FIRST.index(f.name) if f.name in FIRST else len(FIRST)):
            if one.name in FIRST:
                made[one.name] = component(one, self.cls)
        made["seeds"] = gr.Textbox("0", label="seeds", info="one video each: 7, or 1 2 3, or 1-4", max_lines=1,
                                   elem_classes=["field-seeds"])  # fmt: skip
        with gr.Accordion("More settings", open=False):
            made["ending"] = gr.Dropdown(ENDINGS, value="mp4", label="format")
            made |= {one.name: component(one, self.cls) for one in self.fields if one.name not in FIRST}
        self.order = list(made)
        return list(made.values())

    def make(self, request: gr.Request, asked: float, *values: Any) -> Iterator[tuple[str, str, str]]:
        """Run the command once a seed; what is told, what is seen so far, what was made.

        Args:
            asked: when the button was pressed: a Stop behind it holds for what still waits, and between two seeds.
        """
        lines: list[str] = []
        figures: list[str] = []
        yield "", "", ""
        try:
            visitor = self.page.visitor(request)
            given = dict(zip(self.order, values, strict=True))
            for seed in seeds_of(str(given["seeds"])):
                if asked and asked <= visitor.stopped:
                    raise UserError("stopped before it began; nothing was written")
                yield from self._one(visitor, given, seed, lines, figures)
        except UserError as error:
            yield shown.said([*lines, f"error: {error}"]), "", shown.results(figures)

    def _one(
        self, visitor: Visitor, given: dict[str, Any], seed: int, lines: list[str], figures: list[str]
    ) -> Iterator[tuple[str, str, str]]:
        """One video.

        Raises:
            UserError: what the page refuses; what the command refuses is a line.
        """
        arguments, output = self.arguments(visitor, given, seed)
        visitor.running = watched = Watched(self.page.models)
        now, preview, code = "", "", 1
        for event in watch(arguments, watched):
            if event.kind == "line":
                lines.append(event.text)
            elif event.kind == "step":
                now = shown.bar(f"seed {seed}: {event.text}", event.done, event.total)
            elif event.kind == "preview":
                preview = shown.moving_picture(event.picture)
            code = event.code
            yield shown.said(lines) + now, preview, shown.results(figures)
        if code == 130:
            raise UserError("stopped; nothing was written")
        if code == 0:
            command = shown_command(arguments)
            write_text(visitor.folder / f".{output.name}.command", command)
            figures.append(shown.result(output, command, f"seed {seed}"))
        yield shown.said(lines), "", shown.results(figures)

    def arguments(self, visitor: Visitor, given: dict[str, Any], seed: int) -> tuple[list[str], Path]:
        """The command of a filled-in form, and the file that it writes.

        Raises:
            UserError: no source, or a path that this page may not read.
        """
        values = dict(given) | {n: str(p) for n, p in self.sources.chosen(visitor, given).items()}
        for name in (f.name for f in self.fields if f.kind == "file" and values.get(f.name)):
            values[name] = str(visitor.taken(str(values[name])))
        output = visitor.next_output(self.cls.command, f".{given['ending']}")
        arguments = arguments_of(self.cls.command, self.fields, values)
        place = len(self.cls.command.split())
        visitor.check_named(arguments[place:])
        return [*arguments[:place], "--seed", str(seed), "-o", str(output), *arguments[place:]], output

    def later(self, request: gr.Request, *values: Any) -> str:
        """Put a job a seed into the queue: for long videos, and for a page that is closed meanwhile."""
        visitor = self.page.visitor(request)
        given = dict(zip(self.order, values, strict=True))
        lines = []
        for seed in seeds_of(str(given["seeds"])):
            arguments, output = self.arguments(visitor, given, seed)
            # no name that another job or a panel takes before this one is written
            output = output.with_stem(f"{self.cls.command}-{secrets.token_hex(4)}")
            arguments[arguments.index("-o") + 1] = str(output)
            job = work.start(visitor, arguments)
            write_text(visitor.folder / f".{output.name}.command", shown_command(arguments))
            lines.append(f"job {job.name} is {job.state}; its video will be {output.name} in the history")
        return shown.said(lines)

    def stop(self, request: gr.Request, asked: float) -> None:
        """Stop what this visitor is having made, and what they asked for that waits still."""
        visitor = self.page.visitor(request)
        visitor.stopped = asked or 0.0
        if visitor.running is not None:
            visitor.running.stopped.set()


class History:
    """What a visitor has made: watched again, made again, and compared with what was recorded."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Accordion("History", open=False):
            with gr.Row():
                again, which = gr.Button("Show"), gr.Dropdown([], label="file", allow_custom_value=True)
                replay = gr.Button("Replay", elem_classes=["replay"])
            told, made = gr.HTML(elem_classes=["told-history"]), gr.HTML(elem_classes=["made-history"])
        again.click(self.files, None, [which, made], **AT_ONCE)
        replay.click(answering(self.replay), which, told, **AT_WORK)

    def files(self, request: gr.Request) -> tuple[Any, str]:
        visitor = self.page.visitor(request)
        found = visitor.results()
        figures = [shown.result(path, command_of(visitor, path)) for path in found]
        return gr.Dropdown([p.name for p in found], value=found[0].name if found else None), shown.results(figures)

    def replay(self, request: gr.Request, name: str | None) -> str:
        """Make a file again from its record and say whether it is the same."""
        visitor = self.page.visitor(request)
        return shown.said([run_whole(["replay", str(visitor.own(name or ""))]).strip()])


def command_of(visitor: Visitor, path: Path) -> str:
    """The command that a result was made with."""
    kept = visitor.folder / f".{path.name}.command"
    return kept.read_text(encoding="utf-8") if kept.is_file() else ""


def seeds_of(text: str) -> Sequence[int]:
    """The seeds that were typed: "7", "1 2 3", "1, 2", "1-4".

    Raises:
        UserError: no whole numbers, or too many.
    """
    found: list[int] = []
    for part in re.split(r"[\s,]+", text.strip()):
        span = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", part)
        if span is None:
            raise UserError(f"seeds: expected whole numbers, such as 7 or 1 2 3 or 1-4; got {part[:40]!r}")
        first = int(span[1])
        found += range(first, min(int(span[2] or first), first + MOST_SEEDS) + 1)
    if len(found) > MOST_SEEDS:
        raise UserError(f"seeds: at most {MOST_SEEDS} at once")
    return found
