"""The site is built without a warning; translations are of the pages as they are; figures are those of the results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import examples
import pytest

ROOT, GUIDE = examples.ROOT, examples.GUIDE
sys.path.insert(0, str(ROOT / "docs"))
import figures  # noqa: E402
import translations  # noqa: E402

CODE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRANSLATIONS = sorted(str(path.relative_to(GUIDE)) for path in GUIDE.rglob("*.zh.md"))


@pytest.fixture(scope="module", params=["en", "zh"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site in one language; warnings are errors."""
    out = tmp_path_factory.mktemp("site") / request.param
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-q",
            "-E",
            "-c",
            str(GUIDE),
            str(GUIDE.parent),
            str(out),
        ],
        env=os.environ | {"GUIDE_LANGUAGE": request.param},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        tags = [
            (tag, name, target)
            for tag, attributes in re.findall(r"<(\w+)((?:\s[^<>]*)?)>", text)
            for name, target in re.findall(r'\s(href|src|srcset|data|action|poster)="([^"]*)"', attributes)
        ]
        for tag, name, target in tags:
            if re.match(r"https?:|mailto:", target):
                assert (tag, name) == ("a", "href"), f"{page.name} loads {target}"
            elif not target.startswith(("#", "data:")):
                path = unquote(target.split("#")[0].split("?")[0])
                other_language = re.match(r"(\.\./)+(en|zh)/", path)
                assert other_language or (page.parent / path).exists(), f"{page.relative_to(site)} → {target}"


def test_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", style.read_text("utf-8")), style


def test_every_page_is_written_in_both_languages() -> None:
    assert sorted(page.replace(".md", ".zh.md") for page in examples.pages()) == TRANSLATIONS


@pytest.mark.parametrize("translation", TRANSLATIONS)
def test_translation(translation: str) -> None:
    """It is of the page as it stands, and holds the same code, comments aside."""
    path = GUIDE / translation
    original = translations.original_of(path)
    first = translations.FIRST_LINE.match(path.read_text("utf-8"))
    assert first, "the first line names the page and its digest"
    assert first["digest"] == translations.digest(original), f"{original.name} has changed since; translate it anew"

    def code(page: Path) -> list[tuple[str, str]]:
        text = page.read_text("utf-8")
        hidden = [
            ("hidden", block) for block in re.findall(r"^<!-- hidden\n(.*?)^-->$", text, re.MULTILINE | re.DOTALL)
        ]
        meant = [("comment", kind) for kind in re.findall(r"^<!-- (file: .*?|not run):? .*-->$", text, re.MULTILINE)]
        found = [*hidden, *meant, *CODE.findall(text)]
        return [
            (language, re.sub(r"\s*# .*$", "", block, flags=re.MULTILINE))
            for language, block in found
            if not language.startswith("{toctree")
        ]

    assert code(path) == code(original)


@pytest.mark.parametrize("page", figures.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_are_those_of_the_results(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == figures.renewed(text)


def test_a_figure_that_is_not_of_the_results_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text('{"figures": {"b": {"c": 1234.56}}}', "utf-8")
    monkeypatch.setattr(figures, "DOCS", tmp_path)
    assert figures.renewed("1,234.6<!--a: b.c--> and 1235<!--a: b.c-->") == "1,234.6<!--a: b.c--> and 1235<!--a: b.c-->"
    assert figures.renewed("1,234.9<!--a: b.c-->") == "1,234.6<!--a: b.c-->"
    assert figures.renewed("1-2.5<!--a: b.c--> (-1.5<!--a: b.c-->") == "1-1234.6<!--a: b.c--> (1234.6<!--a: b.c-->"
    with pytest.raises(KeyError):
        figures.renewed("1<!--a: d-->")
    with pytest.raises(ValueError, match="no figure"):
        figures.renewed("9.9%<!--a: b.c-->")
