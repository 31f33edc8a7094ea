"""What a form is filled in with: the files that a command starts from, and a component a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from muybridge.errors import UserError
from muybridge.making.base import Making
from muybridge.studio.forms import Field
from muybridge.studio.page import AT_ONCE, Page
from muybridge.studio.visits import Visitor


class Sources:
    """The files that a command starts from: each is uploaded, or one of the visitor's own results.

    Args:
        names: of the command's positional arguments; "folder" is that of a tuned model.
    """

    def __init__(self, page: Page, names: Sequence[str], command: str):
        self.page, self.names = page, names
        self.components: dict[str, Any] = {}
        for name in names:
            if name == "folder":
                tuned = gr.Dropdown([], label="tuned model", allow_custom_value=True, elem_classes=["tuned-model"])
                self.components[name] = tuned
                tuned.focus(self.tuned, None, tuned, **AT_ONCE)
                continue
            self.components[name] = gr.File(label=name, elem_classes=[f"{name}-{command}"])
            own = gr.Dropdown([], label=f"or one of yours as {name}", elem_classes=[f"own-{name}-{command}"])
            self.components[f"own {name}"] = own
            own.focus(self.results, None, own, **AT_ONCE)

    def results(self, request: gr.Request) -> Any:
        """What the visitor has made so far."""
        return gr.Dropdown(["", *(p.name for p in self.page.visitor(request).results())])

    def tuned(self, request: gr.Request) -> Any:
        """Models that the visitor has tuned."""
        return gr.Dropdown(
            sorted(str(p) for p in self.page.visitor(request).folder.glob("tuned/*/model") if p.is_dir())
        )

    def chosen(self, visitor: Visitor, given: Mapping[str, Any]) -> dict[str, Path]:
        """The file behind every name.

        Raises:
            UserError: none, two, or one that may not be read.
        """
        found = {}
        for name in self.names:
            value, own = given.get(name), given.get(f"own {name}")
            if name == "folder":
                found[name] = visitor.check_path(str(value or ""), "folder")
            elif value and own:
                raise UserError(f"{name}: a file and {own} are chosen; clear one of them")
            elif not value and not own:
                raise UserError(f"no {name}: choose a file")
            else:
                found[name] = visitor.own(str(own)) if own else visitor.taken(str(value))
        return found


def component(one: Field, cls: type[Making] | None = None) -> Any:
    """A field as gradio shows it. Numbers are text here (gradio's own become 0 when they are unfolded empty): what was
    typed is read and checked by the command line, so that both say the same."""
    about: dict[str, Any] = {"label": one.label, "info": one.help, "elem_classes": [f"field-{one.name}"]}
    if one.kind == "switch":
        return gr.Checkbox(bool(one.default), **about)
    if one.kind == "choice":
        return gr.Dropdown([("by default", ""), *((str(c), c) for c in one.choices)], value=one.default or "", **about)
    if one.kind == "file":
        return gr.File(label=one.label, elem_classes=about["elem_classes"])
    if one.name == "model":
        from muybridge.library.catalogue import bundled_models

        usual = cls.default_model if cls else ""
        return gr.Dropdown(
            list(bundled_models()), value="", allow_custom_value=True, label="model",
            info=f"a bundled one, or the folder of a saved one; {usual} by default", elem_classes=["field-model"],
        )  # fmt: skip
    many = one.kind == "lines"
    return gr.Textbox(
        "" if one.default is None else str(one.default), lines=2 if many else 1, max_lines=6 if many else 1, **about
    )
