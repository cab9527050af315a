"""Every page links to itself in the other language: /en/guide/questions.html ↔ /zh/guide/questions.zh.html.

Lines of Chinese are joined without the space that a browser would show for a line break.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

WIDE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f“”‘’…—]")
"""Characters that are written without spaces between."""


def join_lines(app: Sphinx, doctree: nodes.document) -> None:
    """Leave out line breaks beside a Chinese character, in what is not code."""
    code = (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.math_block, nodes.raw)
    texts = [text for text in doctree.findall(nodes.Text) if not isinstance(text.parent, code)]
    for text in texts:
        place = text.parent.index(text)
        before = text.parent[place - 1].astext()[-1:] if place else ""
        after = "".join(node.astext()[:1] for node in text.parent[place + 1 : place + 2])
        lines = text.astext().split("\n")
        joined = lines[0]
        for line in lines[1:]:
            left, right = (joined or before)[-1:], (line or after)[:1]
            joined += line if WIDE.match(left) or WIDE.match(right) else "\n" + line
        if joined != text.astext():
            text.parent.replace(text, nodes.Text(joined))


def add_link(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Tell the templates where the page stands in the other language, if it is written in both."""
    chinese = pagename.endswith(".zh")
    other = pagename.removesuffix(".zh") if chinese else f"{pagename}.zh"
    if (Path(app.srcdir) / f"{other}.md").exists():
        up = "../" * (pagename.count("/") + 1)
        context["other_language"] = f"{up}{'en' if chinese else 'zh'}/{other}.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", add_link)
    app.connect("doctree-read", join_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
