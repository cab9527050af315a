"""Trainings that collapse are started anew, the best epoch is kept, and few rows have rates of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import films, random_bert

from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate
from bothways.finetuning import fit as fit_module
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.fit import fit, resolved_for
from bothways.finetuning.run import finetune
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig
from bothways.tables.splitting import split_off
from bothways.tables.table import Columns, LabelColumn, Table, learn_outputs, read_table
from bothways.tasks import tasks_of
from bothways.tokenizer import Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.optimization import optimizers_for

CONFIG = FinetuningConfig(epochs=8, learning_rate=3e-3, precision="fp32", batch_size=16)
STARS = Columns(labels=(LabelColumn.parse("stars=stars:regression"),))


def write_films(path: Path, rows: int, seed: int = 0) -> Path:
    texts, labels = films(rows, seed)
    lines = [f"{t},{y},{104 if y == 'positive' else 101}" for t, y in zip(texts, labels, strict=True)]
    path.write_text("\n".join(["text,label,stars", *lines]) + "\n")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return read_table(write_films(tmp_path / "films.csv", 120), Columns())


def train_that_collapses(times: int, seen: list[TrainingConfig]) -> Any:
    """The training loop, but the first so many trainings end with an output that says one class."""
    train = fit_module.train

    def collapsing(bert: Bert, examples: Any, config: TrainingConfig, **keywords: Any) -> Any:
        seen.append(config)
        log = train(bert, examples, config, **keywords)
        if len(seen) <= times:
            with torch.no_grad():
                bert.output("label").projection.weight.zero_()
                bert.output("label").projection.bias.copy_(torch.tensor([0.0, 1.0]))
        return log

    return collapsing


def test_a_collapse_is_said_and_training_starts_anew_from_the_same_encoder(
    tmp_path: Path, table: Table, encoder_directory: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(fit_module, "train", train_that_collapses(1, seen))
    done = finetune(table.source, tmp_path / "out", encoder=encoder_directory, config=CONFIG)
    assert [(c.seed, c.learning_rate) for c in seen] == [(0, 3e-3), (1, 1.5e-3)]
    assert "The training has collapsed: output 'label' gives every text the same class" in capsys.readouterr().err
    training = json.loads((tmp_path / "out" / "metrics.json").read_text())["training"]
    assert training["restarts"] == 1
    assert (training["settings"]["seed"], training["settings"]["learning_rate"]) == (1, 1.5e-3)

    monkeypatch.undo()  # what comes of it is what these settings give by themselves
    bert, tokenizer, _ = load_model(encoder_directory)
    columns = read_table(table.source, Columns())
    kept, _ = split_off(columns, CONFIG.held_out, seed=CONFIG.seed)
    fit(bert, tokenizer, kept, replace(CONFIG, seed=1, learning_rate=1.5e-3), quiet=True)
    for name, weight in bert.state_dict().items():
        assert torch.equal(weight, done.bert.state_dict()[name]), name


def test_a_third_collapse_is_accepted_and_said(
    table: Table, encoder_directory: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(fit_module, "train", train_that_collapses(9, seen))
    bert, tokenizer, _ = load_model(encoder_directory)
    assert fit(bert, tokenizer, table, CONFIG, quiet=True).restarts == 2
    assert len(seen) == 3
    assert "so it did after 2 restarts" in capsys.readouterr().err


def test_one_class_for_all_is_no_collapse_where_it_is_nearly_always_right(tmp_path: Path) -> None:
    table = read_table(write_films(tmp_path / "films.csv", 40), Columns())
    (output,) = learn_outputs(table)
    (task,) = tasks_of([output])
    one = [np.int64(1)] * 100
    assert task.collapsed([0] * 10 + [1] * 90, one) is False
    assert task.collapsed([0] * 11 + [1] * 89, one) is True
    assert task.collapsed([0] * 50 + [1] * 50, [*one[:-1], np.int64(0)]) is False


@pytest.mark.parametrize(
    ("columns", "metric"), [(Columns(), "accuracy"), (Columns(), "log_loss"), (STARS, "mean_absolute_error")]
)
def test_the_best_epoch_is_kept(tmp_path: Path, encoder_directory: Path, columns: Columns, metric: str) -> None:
    """The rate is so high that epochs differ; the figure of every epoch is known to the stopping."""
    dev = read_table(write_films(tmp_path / "dev.csv", 60, seed=1), columns)
    rows = read_table(write_films(tmp_path / "films.csv", 60), columns)
    stoppings: list[Any] = []

    class Watched(fit_module.EarlyStopping):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            stoppings.append(self)

    bert, tokenizer, _ = load_model(encoder_directory)
    config = FinetuningConfig(epochs=12, learning_rate=2e-2, precision="fp32", batch_size=16, early_stopping=metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "EarlyStopping", Watched)
        log = fit(bert, tokenizer, rows, config, dev=dev, quiet=True)
    history = stoppings[-1].history
    best = (max if metric == "accuracy" else min)(value for _, value in history)
    assert log.followed == {metric: history}
    assert len({value for _, value in history}) > 1
    assert log.best_update == next(update for update, value in history if value == best)
    (figures,) = evaluate(Engine(bert, tokenizer), [dev])["outputs"].values()
    assert figures[metric] == pytest.approx(best, abs=1e-5)


def test_training_ends_when_no_epoch_was_better(table: Table, encoder_directory: Path) -> None:
    bert, tokenizer, _ = load_model(encoder_directory)
    config = FinetuningConfig(epochs=40, learning_rate=1e-12, precision="fp32", early_stopping="accuracy")
    log = fit(bert, tokenizer, table, config, dev=table, quiet=True)
    assert log.best_update == log.updates / 4  # the first epoch, and three that were no better


def test_what_early_stopping_needs(table: Table, encoder_directory: Path) -> None:
    bert, tokenizer, _ = load_model(encoder_directory)
    config = FinetuningConfig(epochs=1, early_stopping="f7")
    with pytest.raises(InputError, match=r"'f7' is measured for no output; choose one of accuracy, "):
        fit(bert, tokenizer, table, config, dev=table, quiet=True)
    with pytest.raises(InputError, match=r"--early-stopping needs rows to evaluate on"):
        fit(bert, tokenizer, table, config, quiet=True)


@pytest.mark.parametrize(
    ("width", "rows", "deviation", "embeddings", "outputs"),
    [(256, 1000, 0.1, 5, 10), (256, 1000, 0.5, 10, 10), (256, 1000, 0.01, 1, 10), (256, 3200, 0.1, 1, 1),
     (768, 100, 0.1, 1, 1)],
)  # fmt: skip
def test_rates_of_few_rows(width: int, rows: int, deviation: float, embeddings: float, outputs: float) -> None:
    encoder = EncoderConfig(vocab_size=9000, hidden_size=width, layers=1, heads=1, feed_forward_size=8)
    bert = Bert(BertConfig(encoder=encoder))
    torch.nn.init.normal_(bert.embeddings.token.weight, std=deviation, generator=torch.Generator().manual_seed(0))
    chosen = resolved_for(FinetuningConfig(), bert, rows)
    assert (chosen.embedding_rate, chosen.output_rate) == (pytest.approx(embeddings, rel=0.01), outputs)
    given = resolved_for(FinetuningConfig(embedding_rate=3.0, output_rate=2.0), bert, rows)
    assert (given.embedding_rate, given.output_rate) == (3, 2)


def test_embeddings_and_outputs_have_rates_of_their_own(
    encoder_config: EncoderConfig, tokenizer: Tokenizer, table: Table
) -> None:
    """AdamW's first step moves every weight with a gradient by the rate, whatever the gradient."""
    bert = random_bert(encoder_config)
    config = FinetuningConfig(
        epochs=1, batch_size=120, warmup=0.0, learning_rate=1e-3, weight_decay=0.0, optimizer="adamw", precision="fp32",
        embedding_rate=5.0, output_rate=20.0,
    )  # fmt: skip
    before = bert.embeddings.token.weight.detach().clone(), bert.encoder.layers[0].feed_forward.expand.weight.clone()
    fit(bert, tokenizer, table, config, quiet=True)
    with torch.no_grad():
        embeddings = (bert.embeddings.token.weight - before[0]).abs().max()
        layers = (bert.encoder.layers[0].feed_forward.expand.weight - before[1]).abs().max()
    assert float(embeddings / layers) == pytest.approx(5, rel=0.05)
    groups = optimizers_for(bert, learning_rate=1e-3, weight_decay=0.1, embedding_rate=5, output_rate=20)[
        0
    ].param_groups
    assert {group["times"] for group in groups} == {1, 5, 20}
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in bert.parameters())
