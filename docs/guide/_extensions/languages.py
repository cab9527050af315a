"""Every page links to itself in the other language: /en/model/attention.html ↔ /zh/model/attention.zh.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


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
    return {"parallel_read_safe": True, "parallel_write_safe": True}
