"""Every command of both README files, run as it stands there, on made-up reviews; links of every page."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import films

ROOT = Path(__file__).parents[2]


def blocks(readme: str, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / readme).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [code for name, code in found if name == language]


def write_reviews(folder: Path) -> None:
    """The files that the examples name."""
    for name, rows, seed in (("train.csv", 200, 0), ("test.csv", 50, 1)):
        texts, labels = films(rows, seed)
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *zip(texts, labels, strict=True)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first block of the README has run."""
    folder = tmp_path_factory.mktemp("readme")
    write_reviews(folder)
    return folder


def test_commands(folder: Path) -> None:
    """All but the first, which installs, and the last, which serves until it is stopped."""
    (script,) = blocks("README.md", "bash")
    install, *middle, serve = [line.split("  #")[0].strip() for line in script.strip().splitlines()]
    assert install == "pip install ."
    assert serve == "bothways serve classifier"
    for command in middle:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert len((folder / "answers.jsonl").read_text("utf-8").splitlines()) == 50


def test_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (example,) = blocks("README.md", "python")
    texts, labels = films(40)
    Path("classifier").rename("classifier-before")  # nothing is overwritten unasked
    names: dict = {"texts": texts, "labels": labels}
    exec(example, names)
    assert names["classifier"].classes_.tolist() == ["negative", "positive"]
    assert np.shape(names["classifier"].predict(texts)) == (40,)


def test_both_languages_show_the_same() -> None:
    """Only the comments differ."""

    def code(readme: str) -> list[str]:
        found = [b for language in ("", "bash", "sh", "python", "json", "toml") for b in blocks(readme, language)]
        return [re.sub(r"\s*# .*$", "", block, flags=re.MULTILINE) for block in found]

    assert code("README.md") == code("README.zh.md")


READ_ON_A_FORGE = [
    "README.md",
    "README.zh.md",
    "CHANGELOG.md",
    "docs/decisions.md",
    "docs/log.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "guide").rglob("*.md")),
]


@pytest.mark.parametrize("page", READ_ON_A_FORGE)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
