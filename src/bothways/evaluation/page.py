"""Pages: HTML in one file, in two languages, which asks nothing of the network and can be read without JavaScript.

Every page shares `templates/base.html`, one stylesheet and one set of SVG macros. What a page shows is data: it is
escaped wherever it stands, since texts are hostile, and by a content security policy only what this package wrote runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from jinja2 import Environment

Language = Literal["en", "zh"]


class Words(NamedTuple):
    """The same words in both languages; the stylesheet shows those of the language that is switched on."""

    en: str
    zh: str

    def __html__(self) -> Markup:
        return self.marked("span")

    def marked(self, tag: str) -> Markup:
        """Both, each in a tag of its own; once where they do not differ."""
        if self.en == self.zh:
            return escape(self.en)
        parts = Markup('<{0} class="en" lang="en">{1}</{0}><{0} class="zh" lang="zh-Hans">{2}</{0}>')
        return parts.format(Markup(tag), self.en, self.zh)

    def of(self, language: Language) -> str:
        """Those of one language, as plain text."""
        return self.zh if language == "zh" else self.en


def svg(text: Words | str) -> Markup:
    """As the content of an SVG text."""
    return text.marked("tspan") if isinstance(text, Words) else escape(text)


def script_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def percent(share: float, digits: int = 1) -> str:
    """A share as people read it, 93.1 %."""
    return f"{100 * share:.{digits}f} %"


def excerpt(text: str, most: int = 240) -> str:
    """The beginning of a text in one line; what is left out is said by an ellipsis."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1].rstrip() + "…"


def digest(content: str) -> str:
    """How a content security policy names a script or a stylesheet that may run (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@cache
def environment() -> Environment:
    """Jinja as all pages use it: everything is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("bothways.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["t"] = Words
    made.filters.update(percent=percent, excerpt=excerpt, script_json=script_json, svg=svg)
    return made


def source(name: str) -> Markup:
    """A stylesheet or a script of the templates, as it is."""
    jinja = environment()
    assert jinja.loader is not None
    return Markup(jinja.loader.get_source(jinja, name)[0])


def render(template: str, *, language: Language, title: Words, **content: Any) -> str:
    """A page from a template that extends `base.html`. `language`: the one it opens in."""
    style, script = source("style.css"), source("script.js")
    return (
        environment()
        .get_template(template)
        .render(
            language=language,
            title=title,
            style=style,
            script=script,
            style_digest=Markup(digest(style)),
            script_digest=Markup(digest(script)),
            **content,
        )
    )
