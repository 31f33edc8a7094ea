"""The page: its tabs, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from muybridge.errors import UserError
from muybridge.studio.running import Models
from muybridge.studio.shown import STYLE, said
from muybridge.studio.visits import COOKIE, Studio, Visitor

TITLE = "muybridge studio"
#: One command at a time: two would only share the machine. Looking and stopping are not behind them.
AT_WORK: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "work"}
AT_ONCE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
#: Seconds between two looks at what a job or a run does.
EVERY = 2.0


class Page:
    """What the tabs share.

    Attributes:
        studio: folders and visitors.
        models: the model that is open.
    """

    def __init__(self, studio: Studio):
        self.studio, self.models = studio, Models()

    def visitor(self, request: gr.Request) -> Visitor:
        """Whose browser asks.

        Raises:
            UserError: it sends no cookie.
        """
        return self.studio.visitor(request.cookies.get(COOKIE, ""))

    def build(self) -> gr.Blocks:
        """All tabs."""
        from muybridge.studio import compare_tab, curate_tab, making_tabs, train_tab
        from muybridge.studio.jobs_panel import Jobs
        from muybridge.studio.learn import learn_tab

        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
            gr.Markdown("# muybridge studio")
            with gr.Tabs():
                making_tabs.add(self)
                train_tab.add(self)
                curate_tab.add(self)
                compare_tab.add(self)
                learn_tab.add(self)
            Jobs(self)
        return blocks


def answering(function: Callable[..., str]) -> Callable[..., str]:
    """An event whose answer is HTML: what is refused is shown as the command line says it."""

    def answer(request: gr.Request, *values: Any) -> str:
        try:
            return function(request, *values)
        except (UserError, OSError) as error:
            return said([f"error: {error}"])

    return answer


def options() -> dict[str, Any]:
    """How gradio serves the page: nothing from elsewhere, nothing told to anyone."""
    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"])
    return {
        "css": STYLE, "theme": theme, "ssr_mode": False, "footer_links": [], "enable_monitoring": False, "pwa": False,
        "mcp_server": False, "show_error": True, "run_history": False,
    }  # fmt: skip
