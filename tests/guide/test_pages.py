"""Every block of code of the guide runs, page by page, and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import examples
import pytest
from sybil.example import SybilFailure


@pytest.mark.parametrize("page", examples.pages())
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    examples.run(examples.GUIDE / page)


RUN, LEFT = {"python", "console"}, {"text", "toml", "sh"}
BUILT = {"{literalinclude}", "{toctree}", "{eval-rst}", "{verbs}"}


@pytest.mark.parametrize("page", examples.pages())
def test_every_block_is_of_a_kind_that_is_run_or_cannot_be(page: str) -> None:
    assert examples.kinds(examples.GUIDE / page) <= RUN | BUILT | LEFT


BROKEN = {
    "a block of Python": "```python\nassert 1 == 2\n```\n",
    "what Python prints": "```python\n>>> 1 + 1\n3\n```\n",
    "a calculation by hand": "```python\n>>> from math import exp\n>>> exp(1) / (exp(1) + exp(2))\n0.31\n```\n",
    "a command": "```console\n$ bothways fly\n```\n",
    "what a command prints": "```console\n$ echo one\ntwo\n```\n",
    "a command without its prompt": "```console\necho one\n```\n",
    "hidden code": "<!-- hidden\nassert False\n-->\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_copy_fails(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{BROKEN[what]}", "utf-8")
    with pytest.raises((SybilFailure, AssertionError)):
        examples.run(page)


def test_the_same_copy_unbroken_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n<!-- hidden\nx = 2\n-->\n\n```python\n>>> x / 3\n0.67\n```\n\n"
        "<!-- file: a.txt -->\n```text\none\n```\n\n"
        "```console\n$ cat a.txt && echo two \\\n    three\none\n... three\n```\n\n<!-- not run: no hub here -->\n"
        "```python\nraise OSError\n```\n",
        "utf-8",
    )
    assert examples.run(page) == 4
