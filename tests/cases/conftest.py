"""A tiny random encoder, as `transformers` saves it, and tiny classifiers trained on it; all are only read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.utils import logging

from cases.helpers import publish, review_rows, succeeds, write_csv, write_rows

logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a test."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BOTHWAYS_PRECISION", "fp32")  # numbers are held against those of `transformers`
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random encoder."""
    return publish(tmp_path_factory.mktemp("tiny") / "encoder", "BertModel")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A classifier of texts: negative, positive."""
    folder = tmp_path_factory.mktemp("classifier")
    table = write_rows(folder / "train.csv", review_rows())
    succeeds("finetune", "--train", table, "--encoder", encoder, "--epochs", 1, "--out", folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def pair_classifier(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A classifier of pairs of texts."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"text": row["text"], "text_pair": "the film", "label": row["label"]} for row in review_rows()]
    table = write_rows(folder / "train.csv", rows)
    succeeds("finetune", "--train", table, "--encoder", encoder, "--epochs", 1, "--out", folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A tagger of words."""
    folder = tmp_path_factory.mktemp("tags")
    rows = [["tokens", "tags"], *[["the good film", "O B-X I-X"], ["我 爱 北 京", "O O B-X I-X"]] * 20]
    table = write_csv(folder / "train.csv", rows)
    use = ("finetune", "--train", table, "--encoder", encoder, "--epochs", 1, "--out", folder / "model")
    succeeds(*use, "--text", "tokens", "--output", "tags=tags:tags")
    return folder / "model"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Published directories, each made once: a function of what `publish` takes that gives a copy to change."""
    made: dict[str, Path] = {}

    def copy(goal: Path, kind: str = "BertForSequenceClassification", **changes: object) -> Path:
        key = repr((kind, sorted(changes.items(), key=str)))
        if key not in made:
            made[key] = publish(tmp_path_factory.mktemp("published") / "model", kind, **changes)
        return Path(shutil.copytree(made[key], goal))

    return copy
