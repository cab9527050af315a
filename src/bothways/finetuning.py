"""The recipe: a table + your output layers → a trained classifier, judged on rows it has not seen."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bothways.batch import PackedBatch, TrainingBatch
from bothways.batching import by_length, shuffled
from bothways.files.writing import refuse_existing
from bothways.formats.hub import AUTO, locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.tables.table import Columns, Table, learn_outputs, read_table, remarks, split_off
from bothways.tasks import Task, tasks_of
from bothways.tasks.task import Target
from bothways.tokenizer import Encoding, Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.log import TrainingLog
from bothways.training.loop import train
from bothways.training.optimization import OptimizerName

Pooling = Literal["auto", "first", "mean"]
WIDE = 512
"""An encoder from this width on has a first token worth reading alone."""
EPOCHS, MOST_EPOCHS, UPDATES = 3, 10, 300
"""Every row is seen `EPOCHS` times, and if that makes fewer than `UPDATES`, more often: `MOST_EPOCHS` times at most."""
MANY_ROWS, EPOCHS_OF_MANY = 40_000, 2
"""From so many rows on, so often is as good."""


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(TrainingConfig):
    """How a classifier is trained."""

    learning_rate: float = 0.0
    """Peak of the learning rate; 0: by the encoder's width, 5e-4 at 256 and 2e-5 at 768 (docs/decisions.md)."""
    optimizer: OptimizerName = "auto"
    """muon for the matrices of the encoder's layers and adamw for the rest, or adamw for everything; auto: muon where
    the encoder is less than 512 wide (docs/decisions.md)."""
    muon_every: int = 0
    """Muon moves each matrix at every so many updates, so much farther: its cost does not depend on how few tokens an
    update has. 0: by the encoder's width, 4 up to 256 and 8 above (docs/decisions.md)."""
    epochs: int = 0
    """How often every row is seen; 0: 3 times, tables of 40,000 rows twice, small ones up to 10 times, until there are
    300 updates."""
    batch_size: int = 32
    """Texts in an update, on average: batches are packed to as many tokens as this many texts of mean length have."""
    max_length: int = 0
    """Texts are cut at this many tokens (and that is reported); 0: at the encoder's longest."""
    pooling: Pooling = "auto"
    """What a text's outputs read: the first token, as published and as `transformers` expects it, or the mean of all
    tokens; auto: the mean where the encoder is less than 512 wide (docs/decisions.md), else the first."""
    dropout: float | None = None
    """Dropout while training; None: what the encoder was pre-trained with (0 for the shipped ones and all that
    `pretrain` makes unless told otherwise, 0.1 for most published ones)."""
    held_out: float = 0.1
    """Without a dev table, this share of the training rows (2,000 at most) is kept aside to judge the result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.epochs >= 0, "epochs", "1 or more, or 0")
        self.require(self.batch_size >= 1, "batch_size", "1 or more")
        self.require(self.max_length == 0 or self.max_length >= 8, "max_length", "8 tokens or more, or 0")
        self.require(self.dropout is None or 0 <= self.dropout < 1, "dropout", "a share of at least 0 and below 1")
        self.require(0 <= self.held_out < 1, "held_out", "a share of at least 0 and below 1")


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and what was learned about it."""

    bert: Bert
    tokenizer: Tokenizer
    log: TrainingLog
    metrics: dict[str, Any] = field(default_factory=dict)


class Examples:
    """Encoded texts with their targets, handed out in shuffled batches of like length."""

    def __init__(
        self,
        encodings: Sequence[Encoding],
        targets: dict[str, Sequence[Target]],
        tasks: Sequence[Task],
        config: FinetuningConfig,
    ) -> None:
        """`targets`: by output, one for each text."""
        self.encodings, self.targets, self.tasks, self.config = encodings, targets, tasks, config
        lengths = np.array([len(encoding) for encoding in encodings])
        self.lengths = lengths
        # A text may be longer than the mean batch, so the budget is never below the longest.
        budget = max(int(lengths.mean() * config.batch_size), int(lengths.max()))
        self.plan = [
            batch
            for epoch in range(config.epochs)
            for batch in shuffled(lengths, budget, seed=config.seed, epoch=epoch)
        ]

    def __len__(self) -> int:
        return len(self.plan)

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        rows = self.plan[step]
        return [self.batch(rows[part]) for part in by_length(self.lengths[rows], self.config.at_once)]

    def batch(self, rows: np.ndarray) -> TrainingBatch:
        """Some rows, packed, with their targets."""
        encodings = [self.encodings[i] for i in rows]
        targets = {task.name: task.tensor([self.targets[task.name][i] for i in rows], encodings) for task in self.tasks}
        return TrainingBatch(PackedBatch.pack(encodings), targets)


def resolved(config: FinetuningConfig, bert: Bert, rows: int) -> FinetuningConfig:
    """The settings with what is left to us chosen by the encoder's width and the number of rows (docs/decisions.md)."""
    width = bert.config.encoder.hidden_size
    wanted = math.ceil(UPDATES * config.batch_size / max(1, rows))
    pooling: Pooling = "first" if width >= WIDE else "mean"
    optimizer: OptimizerName = "adamw" if width >= WIDE else "muon"
    return replace(
        config,
        learning_rate=config.learning_rate or min(5e-4, 2e-5 * (768 / width) ** 3),
        epochs=config.epochs or min(MOST_EPOCHS, max(EPOCHS_OF_MANY if rows >= MANY_ROWS else EPOCHS, wanted)),
        pooling=pooling if config.pooling == "auto" else config.pooling,
        optimizer=optimizer if config.optimizer == "auto" else config.optimizer,
        muon_every=config.muon_every or (4 if width <= 256 else 8),
    )


def fit(
    bert: Bert,
    tokenizer: Tokenizer,
    table: Table,
    config: FinetuningConfig | None = None,
    *,
    outputs: Sequence[OutputConfig] | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Put fresh output layers (those the table asks for, unless given) on `bert` and train all of it, in place."""
    config = resolved(config or FinetuningConfig(), bert, len(table))
    assert config.pooling != "auto"
    outputs = tuple(
        replace(output, reads=config.pooling) if output.reads == "first" else output
        for output in outputs or learn_outputs(table)
    )
    pair = table.columns.text_pair
    bert.config = replace(
        bert.config,
        max_length=config.max_length or bert.config.max_length,
        text_columns=(table.columns.text,) if table.pairs is None else (table.columns.text, pair or "text_pair"),
    )
    if config.dropout is not None:
        bert.set_dropout(config.dropout)
    torch.manual_seed(config.seed)
    bert.attach(*outputs)
    encodings = tokenizer.encode_batch(
        table.texts, table.pairs, max_length=bert.config.longest, with_offsets=table.columns.pretokenized
    )
    truncated = sum(encoding.dropped > 0 for encoding in encodings)
    tasks = tasks_of(outputs)
    standardized = {task.name: task.standardize(table.targets(task)) for task in tasks}
    targets = {name: easy for name, (easy, _) in standardized.items()}
    log = train(bert, Examples(encodings, targets, tasks, config), config, name="fine-tuning", quiet=quiet)
    for name, (_, restore) in standardized.items():
        restore(bert.output(name))
    log.truncated = truncated
    return log


def finetune(
    train_file: str | os.PathLike,
    out: str | os.PathLike,
    *,
    encoder: str | os.PathLike = AUTO,
    dev_file: str | os.PathLike | None = None,
    columns: Columns | None = None,
    config: FinetuningConfig | None = None,
    overwrite: bool = False,
) -> Finetuned:
    """Train a classifier from a table and write it, with `metrics.json`, to the directory `out`.

    Raises InputError for anything the user must mend, before the training starts wherever it can be known then.
    """
    from bothways.evaluation.evaluate import evaluate

    config = config or FinetuningConfig()
    refuse_existing(out, overwrite, reads=(train_file, dev_file, encoder))
    table = read_table(train_file, columns or Columns(), find_pair=True)
    outputs = learn_outputs(table)
    if dev_file is not None:
        judged = read_table(dev_file, table.columns)
    else:
        table, judged = split_off(table, config.held_out, at_most=2000, seed=config.seed)
        if config.held_out and not len(judged):
            print(
                "No row can be held out, since every label needs one to train on; nothing is judged.", file=sys.stderr
            )
    for remark in remarks(outputs, judged):
        print(remark, file=sys.stderr)
    for task in tasks_of(outputs):  # a label that training has not seen is said now, not after an hour
        judged.targets(task)
    chosen = locate(encoder, table.texts)
    bert, tokenizer, report = load_model(chosen)
    print(report, file=sys.stderr)
    config = resolved(config, bert, len(table))
    log = fit(bert, tokenizer, table, config, outputs=outputs)
    if log.truncated:
        print(
            f"{log.truncated:,} of {len(table):,} training texts are longer than {bert.config.longest} tokens and are "
            f"cut.",
            file=sys.stderr,
        )
    metrics = evaluate(Engine(bert, tokenizer), judged) if len(judged) else {"examples": 0, "outputs": {}}
    metrics["judged_on"] = (
        os.fspath(dev_file) if dev_file is not None else f"{len(judged)} rows kept aside from {train_file}"
    )
    metrics["training"] = {
        "examples": len(table),
        "truncated": log.truncated,
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "losses": {name: round(entries[-1][1], 4) for name, entries in log.losses.items()},
        "settings": asdict(config),
    }
    save_model(
        out,
        bert,
        tokenizer,
        card=card(bert, metrics, chosen.name if encoder == AUTO else Path(encoder).name),
        extra_files={"metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"},
        overwrite=overwrite,
    )
    return Finetuned(bert, tokenizer, log, metrics)


def card(bert: Bert, metrics: dict[str, Any], encoder: str) -> str:
    """The model card: what it decides, from which encoder, and how good it was on rows it had not seen."""
    lines = [
        "---",
        "library_name: bothways",
        "pipeline_tag: text-classification",
        "---",
        "",
        f"# A classifier on {encoder}",
        "",
        f"Trained on {metrics['training']['examples']:,} rows; judged on {metrics['examples']:,} "
        f"({metrics['judged_on']}).",
        "",
        "| output | kind | labels | figures |",
        "|---|---|---|---|",
    ]
    for output in bert.config.outputs:
        judged = metrics["outputs"].get(output.name, {})
        said = ", ".join(f"{name} {value:.4g}" for name, value in judged.items() if isinstance(value, float))
        lines.append(f"| {output.name} | {output.kind} | {len(output.labels) or '–'} | {said} |")
    return "\n".join(lines) + "\n"
