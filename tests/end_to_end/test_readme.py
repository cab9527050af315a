"""Every command of both README files, run as it stands there, on made-up reviews and with fewer steps."""

from __future__ import annotations

import csv
import json
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
            writer = csv.writer(stream)
            writer.writerow(["text", "label", "topics", "stars"])
            for text, label in zip(texts, labels, strict=True):
                topics = "|".join(word for word in ("film", "书") if word in text.split())
                writer.writerow([text, label, topics, 5 if label == "positive" else 1])
    texts, labels = films(100, 2)
    rows = [f"{text},{label}\n" for text, label in zip(texts, labels, strict=True)]
    (folder / "news.csv").write_text("title,topic\n" + "".join(rows), "utf-8")
    (task,) = blocks("README.md", "toml")
    (folder / "task.toml").write_text(task, "utf-8")
    documents = [". ".join(films(6, seed=seed)[0]) + "。" for seed in range(200)]
    (folder / "reviews.txt").write_text("\n\n".join(documents), "utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first block of the README has run."""
    folder = tmp_path_factory.mktemp("readme")
    write_reviews(folder)
    return folder


def run(script: str, folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = re.sub(r"--steps \d+", "--steps 20", script).replace("--preset mini", "--preset tiny")
    script = "set -euo pipefail\n" + script.replace("bothways finetune ", "bothways finetune --epochs 1 ")
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands(folder: Path) -> None:
    from_table_to_answers, several, from_tables, own_encoder = blocks("README.md", "bash")
    printed = run(from_table_to_answers, folder)
    answer = json.loads(printed.splitlines()[-1])
    (shown,) = blocks("README.md", "json")
    assert answer.keys() == json.loads(shown).keys()
    assert answer["outputs"]["label"].keys() == json.loads(shown)["outputs"]["label"].keys()
    assert answer["text"] == json.loads(shown)["text"]
    assert len((folder / "answers.jsonl").read_text("utf-8").splitlines()) == 50
    compared = json.loads((folder / "comparison" / "compare.json").read_text("utf-8"))
    assert [entry["error"] for entry in compared] == [None] * 3
    run(own_encoder, folder)
    run(several, folder)
    run(from_tables, folder)
    tables = json.loads((folder / "on-both" / "metrics.json").read_text("utf-8"))["tables"]
    assert [list(table["outputs"]) for table in tables.values()] == [["mood", "stars"], ["topic"]]
    metrics = json.loads((folder / "several" / "metrics.json").read_text("utf-8"))
    assert {name: figures["kind"] for name, figures in metrics["outputs"].items()} == {
        "mood": "single",
        "topics": "multi",
        "stars": "regression",
    }


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
        return [re.sub(r"^#.*$", "#", block, flags=re.MULTILINE) for block in found]

    assert code("README.md") == code("README.zh.md")


@pytest.mark.parametrize(
    "readme",
    [
        "README.md",
        "README.zh.md",
        "CHANGELOG.md",
        "docs/decisions.md",
        "docs/log.md",
        "docs/distillation.md",
        "docs/serving.md",
        "docs/explaining.md",
    ],
)
def test_links_lead_somewhere(readme: str) -> None:
    text = (ROOT / readme).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert ((ROOT / readme).parent / target).exists(), target
