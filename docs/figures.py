"""Measured figures in README and guide come from files in docs/results, which benchmarks wrote.

On a page a figure stands before a comment that names its file and its place there:

    6.1<!--engine: int8.times_pipeline-->

`python docs/figures.py` writes what the files say into every page, with as many digits as are shown now; a test fails
where a page says something else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FIGURE = re.compile(r"(?P<shown>(?:(?<![^\s|(])[+-])?\d[\d,]*(?:\.\d+)?)<!--(?P<file>[\w-]+): (?P<place>[^>]+?)-->")
MARK = re.compile(r"<!--[\w-]+: [^>]+?-->")
"""What names a file and a place, with a figure right before it or not."""


def pages() -> list[Path]:
    """Every page that may show a figure."""
    return [ROOT / "README.md", ROOT / "README.zh.md", *sorted((DOCS / "guide").rglob("*.md"))]


def looked_up(file: str, place: str) -> float:
    """The figure at a dotted place of docs/results/FILE.json. Raises KeyError for one that is not there."""
    found = json.loads((DOCS / "results" / f"{file}.json").read_text("utf-8"))["figures"]
    for name in place.split("."):
        found = found[name]
    return float(found)


def as_shown(figure: float, shown: str) -> str:
    """A figure with the digits, and the commas, of the one that stands there."""
    digits = len(shown.partition(".")[2])
    return f"{figure:{'+' if shown.startswith('+') else ''}{',' if ',' in shown else ''}.{digits}f}"


def renewed(text: str) -> str:
    """A page with every figure as its file says. Raises ValueError for a comment that has no figure before it."""

    if lost := MARK.findall(FIGURE.sub("", text)):
        raise ValueError(f"no figure stands right before {lost[0]}")

    def renew(match: re.Match[str]) -> str:
        figure = looked_up(match["file"], match["place"])
        return as_shown(figure, match["shown"]) + match[0][len(match["shown"]) :]

    return FIGURE.sub(renew, text)


def main() -> None:
    """Renew all pages."""
    for page in pages():
        text = page.read_text("utf-8")
        if renewed(text) != text:
            page.write_text(renewed(text), "utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
