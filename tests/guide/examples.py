"""The code of a page of the guide, as tests run it: top to bottom, in one fresh folder, with one namespace.

    ```python            run; with >>> prompts, what is shown is compared
    ```console           each `$ command` is run by bash, what follows it is compared with its standard output
    <!-- file: NAME -->  the block below is written to NAME
    <!-- hidden ... -->  Python that is run and not shown
    <!-- not run: WHY --> the block below is left alone

Compared means: `...` stands for anything, white space does not count, and a number may be off by one in the last digit
that is shown.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer
from sybil.parsers.myst import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | NUMBER
SECONDS = 300
ABOVE = re.compile(r"<!-- (?P<what>file|not run): (?P<how>[^>]*?) -->\s*\Z")


def above(document: Document, region: Region) -> dict[str, str]:
    """What the comment right above a block says of it: {"what": "file" or "not run", "how": …}, or nothing."""
    found = ABOVE.search(document.text[: region.start])
    return found.groupdict() if found else {}


def run_python() -> object:
    """Blocks of Python that are meant to be run."""
    parse = PythonCodeBlockParser(doctest_optionflags=COMPARED)

    def parser(document: Document) -> Iterator[Region]:
        blocks = {region.start: region for region in FencedCodeBlockLexer("python")(document)}
        starts = sorted(blocks)
        for region in parse(document):
            block = blocks[max(start for start in starts if start <= region.start)]
            if not above(document, block):
                yield region

    return parser


def hidden(document: Document) -> Iterator[Region]:
    """Python in a comment."""
    for region in DirectiveInHTMLCommentLexer(directive="hidden")(document):
        region.parsed, region.evaluator = region.lexemes["source"], PythonEvaluator()
        yield region


def files(document: Document) -> Iterator[Region]:
    """Blocks that are written to a file."""
    for region in FencedCodeBlockLexer(".+")(document):
        comment = above(document, region)
        if comment.get("what") == "file":
            region.parsed = (comment["how"], region.lexemes["source"])
            region.evaluator = write_file
            yield region


def write_file(example: Example) -> None:
    """Write what the block holds into the current folder."""
    name, text = example.parsed
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, "utf-8")


def console(document: Document) -> Iterator[Region]:
    """Commands with what they print."""
    for region in FencedCodeBlockLexer("console")(document):
        if not above(document, region):
            region.parsed, region.evaluator = commands(region.lexemes["source"]), run_commands
            yield region


def commands(source: str) -> list[tuple[str, str]]:
    """(command, what it is shown to print) of each `$ ` line; a backslash continues it."""
    assert source.startswith("$ "), f"a block of commands begins with one: {source!r}"
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        command, shown = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        found.append((command, shown))
    return found


def run_commands(example: Example) -> str | None:
    """Run the commands of a block; return what is wrong, or None."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
    }
    for command, shown in example.parsed:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            return f"$ {command}\nends with exit status {done.returncode}:\n{done.stdout}{done.stderr}"
        if shown.strip() and not OutputChecker().check_output(shown, done.stdout, COMPARED):
            return f"$ {command}\nis shown to print\n{shown}\nbut prints\n{done.stdout}"
    return None


PARSER = Sybil(parsers=[run_python(), hidden, files, console])  # type: ignore[list-item]


def kinds(page: Path) -> set[str]:
    """The languages and directives of the blocks of a page that are to be run or built, not left alone."""
    text = re.sub(r"<!-- (?:hidden\n.*?|[^>]*?)-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    fences = re.findall(r"^[`~:]{3,}(\S*)", text, re.MULTILINE)
    return {fence for fence in fences if fence}


def pages() -> list[str]:
    """The English pages, as docs/guide names them; the Chinese ones hold the same code."""
    return sorted(str(path.relative_to(GUIDE)) for path in GUIDE.rglob("*.md") if not path.name.endswith(".zh.md"))


def examples(page: Path) -> list[Example]:
    """All that is to be run of a page, in order."""
    return list(PARSER.parse(page).examples())


def run(page: Path) -> int:
    """Run a page in the current folder → how many examples it has. Raises sybil's failure for the first fault."""
    found = examples(page)
    for example in found:
        example.evaluate()
    return len(found)
