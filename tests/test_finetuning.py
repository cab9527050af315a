"""Tables in, classifiers out: every kind of output layer, and several at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films, random_bert

from bothways import hardware
from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate_file
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.fit import fit, resolved_for
from bothways.finetuning.run import finetune
from bothways.formats.reading import load_model
from bothways.inference.answers import answers as answers_of
from bothways.inference.engine import Engine, load_classifier
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.pretraining.config import PretrainingConfig
from bothways.tables.table import Columns, LabelColumn, read_table
from bothways.tokenizer import Text, Tokenizer

CONFIG = FinetuningConfig(epochs=12, learning_rate=3e-3, precision="fp32", batch_size=16)


def write_table(path: Path, rows: int, seed: int) -> Path:
    """Made-up reviews with a target of every kind, all hanging on one word."""
    texts, labels = films(rows, seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["words", "mood", "topics", "stars", "slots"])
        for text, label in zip(texts, labels, strict=True):
            words = text.split()
            tags = ["B-word" if w in ("good", "不错", "worth", "worse", "空洞", "thin") else "O" for w in words]
            topics = "|".join(name for name in ("film", "书") if name in words)
            writer.writerow([text, label, topics, 5 if label == "positive" else 1, " ".join(tags)])
    return path


def probabilities(engine: Engine, texts: Sequence[Text]) -> dict[str, Any]:
    """By output."""
    predictions = engine.run(engine.encode(texts))
    return {task.name: task.probabilities(predictions) for task in engine.tasks}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "train.csv", 400, 0)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return write_table(tmp_path / "dev.csv", 100, 1)


ALL = ("mood=mood:single", "topics=topics:multi", "stars=stars:regression", "slots=slots:tags")
GOOD = {"mood": ("accuracy", 0.9), "topics": ("micro_f1", 0.9), "stars": ("pearson", 0.8), "slots": ("f1", 0.9)}


@pytest.mark.parametrize("outputs", [(spec,) for spec in ALL] + [ALL])
def test_every_kind_alone_and_all_together(
    tmp_path: Path, table: Path, dev: Path, encoder_directory: Path, outputs: tuple[str, ...]
) -> None:
    columns = Columns(text="words", labels=tuple(map(LabelColumn.parse, outputs)))
    done = finetune(table, tmp_path / "out", encoder=encoder_directory, dev_file=dev, columns=columns, config=CONFIG)
    for spec in outputs:
        name = spec.partition("=")[0]
        figure, least = GOOD[name]
        assert done.metrics["outputs"][name][figure] >= least, done.metrics["outputs"]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["examples"] == 100
    assert written["outputs"] == done.metrics["outputs"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"bothways evaluate {tmp_path / 'out'} FILE" in page
    assert page.count("where it errs") + page.count("Where it errs") == len(outputs)
    seen = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))["outputs"]
    assert [output["name"] for output in seen] == [spec.partition("=")[0] for spec in outputs]
    for output in seen:
        assert sum(output["totals"]) == sum(cell["count"] for cell in output["cells"])
        assert bool(output["cells"]) == (output["kind"] == "single")

    bert, tokenizer, report = load_model(tmp_path / "out")
    assert not report.untrained
    engine = Engine(bert, tokenizer)
    again = evaluate_file(engine, dev)["outputs"]
    for name, measured in done.metrics["outputs"].items():  # what has a temperature or thresholds of the other half
        fitted = ("log_loss", "expected_calibration_error", "bins", "intervals")
        left_out = tuple(measured) if measured["kind"] == "multi" else fitted if measured["kind"] == "single" else ()
        assert {key: value for key, value in again[name].items() if key not in left_out} == {
            key: value for key, value in measured.items() if key not in left_out
        }

    read = read_table(dev, columns)
    answers = list(answers_of(engine.tasks, read.texts[:9], engine.run(engine.encode(read.texts[:9]))))
    assert [a["tokens"] for a in answers] == [len(e) for e in tokenizer.encode_batch(read.texts[:9])]
    for answer, text in zip(answers, read.texts, strict=False):
        said = answer["outputs"]
        if "mood" in said:
            assert said["mood"]["score"] == max(said["mood"]["scores"].values())
            assert sum(said["mood"]["scores"].values()) == pytest.approx(1, abs=1e-4)
        if "topics" in said:
            assert set(said["topics"]["labels"]) <= {"film", "书"}
        if "stars" in said:
            assert isinstance(said["stars"]["value"], float)
        if "slots" in said:
            assert said["slots"]["words"] == list(text)
            assert len(said["slots"]["labels"]) == len(text)


def test_pairs(tmp_path: Path, encoder_directory: Path) -> None:
    """The label hangs on whether both texts say the same word, so it cannot be told from one alone."""
    random = np.random.default_rng(0)
    words = ["good", "worse"]
    with (tmp_path / "pairs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "text_pair", "label"])
        for n in range(600):  # whose number makes each pair another: equal ones are not parted, so not held out
            a, b = random.choice(words, 2)
            writer.writerow([f"{a} {n}", b, "same" if a == b else "different"])
    config = replace(CONFIG, epochs=20)
    done = finetune(tmp_path / "pairs.csv", tmp_path / "out", encoder=encoder_directory, config=config)
    assert done.metrics["outputs"]["label"]["accuracy"] == 1.0
    assert done.metrics["examples"] == 60
    assert "60 rows held out" in done.metrics["evaluated_on"]
    assert load_model(tmp_path / "out")[0].config.text_columns == ("text", "text_pair")


def test_long_texts_are_cut_and_counted(
    tmp_path: Path, encoder_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = films(100)
    rows = "".join(
        f"{t} {'film ' * (90 if i % 10 == 0 else 0)},{y}\n" for i, (t, y) in enumerate(zip(texts, labels, strict=True))
    )
    (tmp_path / "long.csv").write_text("text,label\n" + rows)
    done = finetune(
        tmp_path / "long.csv",
        tmp_path / "out",
        encoder=encoder_directory,
        dev_file=tmp_path / "long.csv",
        config=replace(CONFIG, epochs=1, max_length=40),
    )
    assert done.metrics["truncated"] == 10
    assert "10 of 100 training texts are longer than 40 tokens and are truncated." in capsys.readouterr().err
    bert, tokenizer, _ = load_model(tmp_path / "out")
    assert bert.config.longest == 40
    encodings = Engine(bert, tokenizer).encode(["film " * 90, "film"])
    assert [len(encoding) for encoding in encodings] == [40, 3]
    assert [encoding.dropped for encoding in encodings] == [52, 0]


def test_mistakes_are_found_before_training(
    tmp_path: Path, table: Path, encoder_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bothways.finetuning.fit.train", lambda *a, **k: pytest.fail("training started"))
    columns = Columns(text="words", labels=(LabelColumn.parse("mood"),))
    (tmp_path / "dev.csv").write_text("words,mood\nfilm,positive\nfilm,mixed\n")
    with pytest.raises(InputError, match=r"dev\.csv, line 3: the label 'mixed'"):
        finetune(table, tmp_path / "out", encoder=encoder_directory, dev_file=tmp_path / "dev.csv", columns=columns)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        finetune(table, tmp_path / "there", encoder=encoder_directory, columns=columns)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dev.csv", "encoder", "there", "train.csv"]


def test_the_engine_streams_and_keeps_order(encoder_directory: Path, tmp_path: Path, table: Path) -> None:
    columns = Columns(text="words", labels=(LabelColumn.parse("mood"),))
    finetune(
        table,
        tmp_path / "out",
        encoder=encoder_directory,
        columns=columns,
        config=replace(CONFIG, epochs=1, held_out=0.0),
    )
    bert, tokenizer, _ = load_model(tmp_path / "out")
    texts = films(50, seed=3)[0] + [""]
    exact, fast = (Engine(bert, tokenizer, precision=p) for p in ("fp32", "bf16"))
    alone = [probabilities(exact, [text])["mood"][0] for text in texts]
    engine = Engine(bert, tokenizer, precision="fp32", window=7, batch_tokens=30)
    (task,) = engine.tasks
    together = np.concatenate([task.probabilities(window) for window in engine.predict(iter(texts))])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(probabilities(fast, texts)["mood"], alone, atol=0.03)


@pytest.mark.parametrize("side_by_side", [2, 3])
def test_batches_side_by_side_give_the_same_answers(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, side_by_side: int
) -> None:
    """Each on a core of its own, from several threads at once; each thread of the pool works alone."""
    outputs = (
        OutputConfig(name="mood", kind="single", labels=("a", "b"), reads="mean"),
        OutputConfig(name="slots", kind="tags", labels=("O", "B"), reads="tokens"),
    )
    bert = random_bert(encoder_config, *outputs)
    texts = [text.split() for text in films(60)[0]]
    engine = Engine(bert, tokenizer, precision="fp32", batch_tokens=64)
    engine.backend.side_by_side = 1
    expected = probabilities(engine, texts)
    monkeypatch.setattr("bothways.hardware.cores", lambda: side_by_side)
    monkeypatch.setattr("bothways.inference.engine.SIDE_BY_SIDE_TOKENS", 20)
    hardware.core_pool.cache_clear()
    engine.backend.side_by_side = side_by_side
    with ThreadPoolExecutor(3) as callers:
        for found in callers.map(lambda _: probabilities(engine, texts), range(6)):
            np.testing.assert_allclose(found["mood"], expected["mood"], atol=1e-5)
            for ours, theirs in zip(found["slots"], expected["slots"], strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-5)
    before = torch.get_num_threads()
    assert set(hardware.core_pool().map(lambda _: torch.get_num_threads(), range(4))) == {1}
    assert torch.get_num_threads() == before
    hardware.core_pool.cache_clear()


def test_filler_of_bf16_gets_no_answer(encoder_config: EncoderConfig, tokenizer: Tokenizer) -> None:
    """As many answers as there are texts and words, the same as in fp32, which needs no filler."""
    outputs = (
        OutputConfig(name="mood", kind="single", labels=("a", "b")),
        OutputConfig(name="topics", kind="multi", labels=("x", "y"), reads="mean"),
        OutputConfig(name="slots", kind="tags", labels=("O", "B"), reads="tokens"),
    )
    bert = random_bert(encoder_config, *outputs)
    texts = [text.split() for text in films(21)[0]] + [["film"], []]
    exact, fast = (probabilities(Engine(bert, tokenizer, precision=p), texts) for p in ("fp32", "bf16"))
    for name, expected in exact.items():
        assert len(fast[name]) == len(texts)
        for ours, theirs in zip(fast[name], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_numbers_far_from_zero_are_learned(tmp_path: Path, encoder_directory: Path) -> None:
    texts, labels = films(400)
    rows = "".join(f"{t},{104 if y == 'positive' else 98}\n" for t, y in zip(texts, labels, strict=True))
    (tmp_path / "a.csv").write_text("text,degrees\n" + rows)
    columns = Columns(labels=(LabelColumn.parse("degrees:regression"),))
    config = replace(CONFIG, held_out=0.2)
    done = finetune(tmp_path / "a.csv", tmp_path / "out", encoder=encoder_directory, columns=columns, config=config)
    assert done.metrics["outputs"]["degrees"]["mean_absolute_error"] < 1.0
    assert (
        evaluate_file(Engine(*load_classifier(tmp_path / "out")), tmp_path / "a.csv")["outputs"]["degrees"]["pearson"]
        > 0.9
    )
    assert done.metrics["training"]["settings"]["learning_rate"] == CONFIG.learning_rate


def test_a_model_of_single_texts_reads_single_texts(tmp_path: Path, encoder_directory: Path) -> None:
    texts, labels = films(60)
    one = "".join(f"{t},{y}\n" for t, y in zip(texts, labels, strict=True))
    two = "".join(f"{t},{t} {t},{y}\n" for t, y in zip(texts, labels, strict=True))
    (tmp_path / "one.csv").write_text("text,label\n" + one)
    (tmp_path / "two.csv").write_text("text,text_pair,label\n" + two)
    finetune(tmp_path / "one.csv", tmp_path / "out", encoder=encoder_directory, config=replace(CONFIG, epochs=1))
    engine = Engine(*load_classifier(tmp_path / "out"))
    assert evaluate_file(engine, tmp_path / "one.csv") == evaluate_file(engine, tmp_path / "two.csv")


def test_weights_of_an_output_that_are_missing(tmp_path: Path, table: Path, encoder_directory: Path) -> None:
    names = ("LayerNorm.gamma=mood", "a/b.*=topics:multi")
    columns = Columns(text="words", labels=tuple(map(LabelColumn.parse, names)))
    finetune(table, tmp_path / "out", encoder=encoder_directory, columns=columns, config=replace(CONFIG, epochs=1))
    assert [task.name for task in Engine(*load_classifier(tmp_path / "out")).tasks] == ["LayerNorm.gamma", "a/b.*"]
    (tmp_path / "out" / "outputs.safetensors").unlink()
    with pytest.raises(InputError, match=r"the weights of output layer 'LayerNorm\.gamma' are missing"):
        load_classifier(tmp_path / "out")
    with pytest.raises(InputError, match="no output layer that classifies; fine-tune it first"):
        load_classifier(encoder_directory)


@pytest.mark.parametrize(
    ("recipe", "setting", "value"),
    [
        (FinetuningConfig, "epochs", -1),
        (FinetuningConfig, "held_out", 1.0),
        (FinetuningConfig, "held_out", -0.5),
        (FinetuningConfig, "learning_rate", -1.0),
        (FinetuningConfig, "learning_rate", float("nan")),
        (FinetuningConfig, "gradient_clip", 0.0),
        (FinetuningConfig, "seed", -1),
        (FinetuningConfig, "max_length", 3),
        (PretrainingConfig, "steps", -5),
        (PretrainingConfig, "sequence_lengths", (3,)),
        (PretrainingConfig, "length_shares", (0.5, 0.6, 0.1)),
        (PretrainingConfig, "masking_rate", 1.5),
        (PretrainingConfig, "evaluate_every", -1),
    ],
)
def test_settings_that_make_no_sense(recipe: type, setting: str, value: float) -> None:
    with pytest.raises(InputError, match="--" + setting.replace("_", "-") + " is "):
        recipe(**{setting: value})


@pytest.mark.parametrize(
    ("width", "rate", "pooling", "optimizer", "every"),
    [
        (64, 5e-4, "mean", "muon", 8),
        (256, 5e-4, "mean", "muon", 8),
        (384, 1.6e-4, "mean", "muon", 8),
        (768, 2e-5, "first", "adamw", 8),
    ],
)
def test_what_the_width_decides(width: int, rate: float, pooling: str, optimizer: str, every: int) -> None:
    bert = Bert(
        BertConfig(encoder=EncoderConfig(vocab_size=20, hidden_size=width, layers=1, heads=1, feed_forward_size=8))
    )
    chosen = resolved_for(FinetuningConfig(), bert, 10_000)
    assert (chosen.learning_rate, chosen.pooling, chosen.epochs) == (pytest.approx(rate), pooling, 3)
    assert (chosen.optimizer, chosen.muon_every) == (optimizer, every)
    given = {"learning_rate": 1e-3, "pooling": "first", "epochs": 2, "optimizer": "adamw", "muon_every": 2}
    chosen = resolved_for(FinetuningConfig(**given), bert, 10)  # type: ignore[arg-type]
    assert given == {name: getattr(chosen, name) for name in given}
    assert [name for name, value in asdict(chosen).items() if value is None] == ["coverage"]  # that is a choice, too


@pytest.mark.parametrize(("asked", "dropout"), [(None, 0.2), (0.0, 0.0), (0.3, 0.3)])
def test_dropout_is_that_of_the_encoder_unless_asked_for(
    table: Path, encoder_directory: Path, asked: float | None, dropout: float
) -> None:
    bert, tokenizer, _ = load_model(encoder_directory)
    bert.set_dropout(0.2)
    columns = Columns(text="words", labels=(LabelColumn.parse("mood=mood:single"),))
    fit(bert, tokenizer, read_table(table, columns), FinetuningConfig(epochs=1, dropout=asked), quiet=True)
    assert bert.config.encoder.dropout == dropout
    assert {module.p for module in bert.modules() if isinstance(module, torch.nn.Dropout)} == {dropout}


@pytest.mark.parametrize(
    ("rows", "classes", "epochs"),
    [(1, 2, 20), (100, 2, 20), (150, 2, 13), (200, 2, 10), (400, 2, 5), (400, 50, 8), (1_000, 2, 5), (1_000, 150, 10),
     (1_000, 900, 10), (2_000, 100, 4), (2_000, 2, 3), (3_200, 150, 3), (39_999, 2, 3), (40_000, 150, 2)],
)  # fmt: skip
def test_few_rows_are_seen_more_often_than_many(encoder_directory: Path, rows: int, classes: int, epochs: int) -> None:
    bert, _, _ = load_model(encoder_directory)
    output = OutputConfig(name="a", kind="single", labels=tuple(map(str, range(classes))))
    assert resolved_for(FinetuningConfig(), bert, rows, [output]).epochs == epochs


@pytest.mark.parametrize(
    ("width", "rows", "classes", "rate"),
    [(384, 1_000, 150, 4e-4), (384, 1_000, 10, 1.6e-4), (384, 5_000, 150, 4e-4),
     (384, 30_000, 150, 1.6e-4), (384, 300, 150, 1e-4),
     (256, 1_000, 150, 5e-4), (768, 1_000, 150, 2e-5)],
)  # fmt: skip
def test_few_rows_of_many_classes_are_learned_faster(width: int, rows: int, classes: int, rate: float) -> None:
    bert = Bert(
        BertConfig(encoder=EncoderConfig(vocab_size=20, hidden_size=width, layers=1, heads=1, feed_forward_size=8))
    )
    output = OutputConfig(name="a", kind="single", labels=tuple(map(str, range(classes))))
    assert resolved_for(FinetuningConfig(), bert, rows, [output]).learning_rate == pytest.approx(rate)


def test_no_texts(encoder_directory: Path) -> None:
    bert, tokenizer, _ = load_model(encoder_directory)
    engine = Engine(bert, tokenizer)
    assert engine.run(engine.encode([])).encodings == []
