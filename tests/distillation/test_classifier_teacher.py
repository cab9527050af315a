"""A classifier teaches a smaller one, on texts that nobody has labelled."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films, random_bert
from scipy.special import log_softmax, softmax
from torch.nn.functional import binary_cross_entropy

from bothways.classifier import TextClassifier
from bothways.distillation.classifier import ClassifierTeacher, DistilledOutput
from bothways.distillation.config import DistillationConfig
from bothways.distillation.run import distill
from bothways.distillation.texts import GivenText
from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.run import finetune
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.answers import answers
from bothways.inference.engine import Engine, load_classifier
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.model.outputs import build_output
from bothways.tables.table import Columns, LabelColumn
from bothways.tokenizer import Tokenizer

CONFIG = DistillationConfig(batch_tokens=256, held_out=0.1, precision="fp32", learning_rate=5e-3, epochs=8)
KINDS = {"mood": "single", "topics": "multi", "stars": "regression"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """Fine-tuned on 300 rows, with three outputs and a text column of its own name."""
    folder = tmp_path_factory.mktemp("teacher")
    save_model(folder / "encoder", random_bert(encoder_config), tokenizer)
    texts, labels = films(300)
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["title", *KINDS])
        for text, label in zip(texts, labels, strict=True):
            topics = "|".join(word for word in ("film", "书") if word in text.split())
            writer.writerow([text, label, topics, 500 if label == "positive" else 100])
    finetune(
        folder / "train.csv",
        folder / "teacher",
        encoder=folder / "encoder",
        columns=Columns(
            text="title", labels=tuple(LabelColumn.parse(f"{name}={name}:{kind}") for name, kind in KINDS.items())
        ),
        config=FinetuningConfig(learning_rate=5e-3, epochs=6, precision="fp32"),
    )
    return folder / "teacher"


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    (tmp_path / "new.csv").write_text("title\n" + "\n".join(films(600, seed=5)[0]), "utf-8")
    return tmp_path / "new.csv"


def test_a_student_answers_as_its_teacher(
    teacher: Path, unlabelled: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "small", random_bert(replace(encoder_config, layers=1), seed=3), tokenizer)
    done = distill(
        [unlabelled], tmp_path / "out", teacher=teacher, encoder=tmp_path / "small", config=CONFIG, quiet=True
    )
    student = Engine(*load_classifier(tmp_path / "out"))
    before = {task.name: task.output for task in ClassifierTeacher(teacher).engine.tasks}
    for task in student.tasks:
        wanted = before[task.name]
        assert (task.output.labels, task.output.kind) == (wanted.labels, wanted.kind)
        assert (task.output.column, task.output.thresholds) == (wanted.column, wanted.thresholds)
        assert done.metrics["held_out"][task.name][-1]["agreement"] > 0.9
    assert student.config.text_columns == ("title",)
    texts, labels = films(200, seed=9)

    def said(engine: Engine) -> list[dict[str, Any]]:
        return [row["outputs"] for row in answers(engine.tasks, texts, engine.run(engine.encode(texts)))]

    students, teachers = said(student), said(Engine(*load_classifier(teacher)))
    moods = np.array([[a["mood"]["label"], t["mood"]["label"]] for a, t in zip(students, teachers, strict=True)])
    assert (moods[:, 0] == moods[:, 1]).mean() > 0.95
    assert (moods[:, 0] == labels).mean() > 0.9
    stars = np.array([[a["stars"]["value"], t["stars"]["value"]] for a, t in zip(students, teachers, strict=True)])
    assert np.abs(stars[:, 0] - stars[:, 1]).mean() < 40  # in the teacher's unit, of which one class is 400 more
    topics = [a["topics"]["labels"] == t["topics"]["labels"] for a, t in zip(students, teachers, strict=True)]
    assert np.mean(topics) > 0.8
    known = np.array([[a["mood"]["known"], t["mood"]["known"]] for a, t in zip(students, teachers, strict=True)])
    assert abs(known[:, 0].mean() - known[:, 1].mean()) < 0.1


def test_a_student_is_a_text_classifier(
    teacher: Path, unlabelled: Path, encoder_directory: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    texts, labels = films(200)
    first = TextClassifier(encoder_directory, epochs=4, learning_rate=5e-3).fit(
        texts, [label == "positive" for label in labels]
    )
    first.save(tmp_path / "first")
    (tmp_path / "lines.txt").write_text("\n".join(films(300, 4)[0]), "utf-8")
    config = replace(CONFIG, epochs=4)
    distill(
        [tmp_path / "lines.txt"], tmp_path / "out", teacher=tmp_path / "first", encoder=encoder_directory, config=config
    )
    student = TextClassifier.load(tmp_path / "out")
    assert student.classes_.tolist() == [False, True]
    assert (student.predict(texts) == first.predict(texts)).mean() > 0.9


def test_answers_are_calibrated_logits_side_by_side(teacher: Path) -> None:
    made = ClassifierTeacher(teacher)
    texts = films(20, 3)[0]
    answers = made.answers([GivenText(text) for text in texts], 0)
    predictions = made.engine.run(made.engine.encode(texts))
    mood = made.engine.tasks[0]
    found = softmax(answers[:, made.parts["mood"]], axis=-1)
    np.testing.assert_allclose(found, mood.probabilities(predictions), atol=1e-5)
    assert made.width == 2 + 1 + 2 + 1  # mood, its distance, topics, stars


def layer(kind: str, encoder: EncoderConfig) -> DistilledOutput:
    labels = () if kind == "regression" else ("a", "b", "c")
    output = OutputConfig(name="x", kind=kind, labels=labels)  # type: ignore[arg-type]
    bert = random_bert(encoder, output)
    return DistilledOutput(build_output(output, BertConfig(encoder=encoder).encoder, bert.token_embedding), 2.0)


def test_losses_against_numpy(encoder_config: EncoderConfig) -> None:
    random = np.random.default_rng(0)
    logits, taught = random.normal(size=(2, 5, 3)).astype(np.float32)
    taught[3] = np.nan  # filler
    rows = [0, 1, 2, 4]
    given = torch.from_numpy(logits), torch.from_numpy(taught)
    single = -(softmax(taught[rows] / 2, -1) * log_softmax(logits[rows] / 2, -1)).sum() * 4
    assert float(layer("single", encoder_config).loss(*given)) == pytest.approx(single, rel=1e-5)
    wanted = torch.from_numpy(1 / (1 + np.exp(-taught[rows] / 2)))
    multi = binary_cross_entropy(torch.sigmoid(given[0][rows] / 2), wanted, reduction="none").mean(-1).sum() * 4
    assert float(layer("multi", encoder_config).loss(*given)) == pytest.approx(float(multi), rel=1e-5)
    regression = ((logits - taught)[rows, :1] ** 2).sum()
    one = given[0][:, :1], given[1][:, :1]
    assert float(layer("regression", encoder_config).loss(*one)) == pytest.approx(regression, rel=1e-5)
    assert layer("single", encoder_config).count(given[1]) == 4


def test_the_loss_is_least_at_the_teachers_logits(encoder_config: EncoderConfig) -> None:
    taught = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for kind in ("single", "multi"):
        logits = taught.clone().requires_grad_()
        layer(kind, encoder_config).loss(logits, taught).backward()
        torch.testing.assert_close(logits.grad, torch.zeros_like(taught), atol=1e-6, rtol=0)


def test_a_classifier_knows_its_columns(teacher: Path, unlabelled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a classifier, which knows its columns"):
        distill([unlabelled], tmp_path / "out", teacher=teacher, column="title")


def test_labels_of_words_cannot_be_taught(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, tmp_path: Path, unlabelled: Path
) -> None:
    tags = OutputConfig(name="slots", kind="tags", labels=("O", "B-x"), reads="tokens")
    save_model(tmp_path / "tags", random_bert(encoder_config, tags), tokenizer)
    with pytest.raises(InputError, match="output 'slots' labels words, which cannot be distilled"):
        distill([unlabelled], tmp_path / "out", teacher=tmp_path / "tags")


def test_metrics_say_how_near_it_came(teacher: Path, unlabelled: Path, encoder_directory: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1)
    distill([unlabelled], tmp_path / "out", teacher=teacher, encoder=encoder_directory, config=config, quiet=True)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert metrics["texts"] == 600
    assert metrics["held_out"].keys() == KINDS.keys()
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "Distilled from teacher" in card
    assert not load_model(tmp_path / "out")[2].untrained
