"""The book (`make docs`): built without a network, and read without one - formulas become MathML when it is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from muybridge import __version__

project, author, release = "muybridge", "The muybridge authors", __version__
copyright = "2026, the muybridge authors. Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
exclude_patterns = ["notebooks/*"]
html_theme, html_title = "furo", "muybridge"
html_static_path: list[str] = []
html_theme_options = {"top_of_page_buttons": []}
html_math_renderer = "mathml"
html_show_sphinx = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
myst_url_schemes = ["http", "https", "mailto"]


def inline(self: Any, node: Any) -> None:
    """A formula within a line."""
    write(self, node.astext(), "inline")


def displayed(self: Any, node: Any) -> None:
    """A formula on a line of its own, with its number where it has a label."""
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    self.body.append(f'<div class="math"{anchor}>')
    write(self, node.astext(), "block")
    self.body.append("</div>")


def write(self: Any, latex: str, display: str) -> None:
    """LaTeX as MathML; docutils' own handling of the node ends here."""
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    self.body.append(convert(latex, display=display))
    if display == "inline":
        raise SkipNode


def block(self: Any, node: Any) -> None:
    from docutils.nodes import SkipNode

    displayed(self, node)
    raise SkipNode


def as_written(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring as its author laid it out: its formulas, shapes and tables are no markup."""
    lines[:] = ["::", "", *(f"   {line}" for line in lines), ""] if any(lines) else lines


def names_lead_to_the_api(app: Any, doctree: Any, page: str) -> None:
    """A name of the code in a line, `diffusion.process.diffuse`, becomes a link to its docstring."""
    from docutils import nodes

    known = app.env.domains["py"].objects
    for literal in list(doctree.findall(nodes.literal)):
        name = f"muybridge.{literal.astext()}"
        if name in known and not isinstance(literal.parent, nodes.reference):
            found = known[name]
            target = app.builder.get_relative_uri(page, found.docname) + f"#{found.node_id}"
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=target, internal=True))


def setup(app: Any) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("autodoc-process-docstring", as_written)
    app.connect("doctree-resolved", names_lead_to_the_api)
