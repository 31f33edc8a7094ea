"""Learn: one lesson below the other."""

from __future__ import annotations

from typing import Any

import gradio as gr

from muybridge.studio.learn import basics, video
from muybridge.studio.learn.drawing import formula
from muybridge.studio.learn.lesson import Lesson, Slider
from muybridge.studio.page import AT_ONCE, Page

LESSONS = (*basics.LESSONS, *video.LESSONS)


def add(page: Page) -> None:
    """The tab."""
    with gr.Tab("Learn"), gr.Tabs():
        for lesson in LESSONS:
            with gr.Tab(lesson.title) as tab:
                _lesson(lesson, tab)


def _lesson(lesson: Lesson, tab: Any) -> None:
    gr.Markdown(f"{lesson.text}\n\n`muybridge.{lesson.code}` · {lesson.source}")
    equation = gr.HTML(elem_classes=["equation"])
    with gr.Row():
        with gr.Column():
            inputs = [_input(slider) for slider in lesson.sliders]
            plot = gr.HTML(elem_classes=["plot"])
        frames = gr.HTML(elem_classes=["frames"])

    def show(*values: Any) -> tuple[str, str, str]:
        shown = lesson.show(**dict(zip((s.name for s in lesson.sliders), values, strict=True)))
        return formula(shown.formula), shown.plot, shown.frames

    outputs = [equation, plot, frames]
    tab.select(show, inputs, outputs, **AT_ONCE)
    for one in inputs:
        one.change(show, inputs, outputs, **AT_ONCE, trigger_mode="always_last")


def _input(slider: Slider) -> Any:
    if slider.choices:
        return gr.Dropdown(list(slider.choices), value=slider.start, label=slider.label)
    return gr.Slider(slider.low, slider.high, float(slider.start), step=slider.step, label=slider.label)
