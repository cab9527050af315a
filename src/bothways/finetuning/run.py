"""The recipe: a table + your output layers → a trained classifier, evaluated on rows it has not seen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bothways.errors import InputError
from bothways.evaluation.calibration import calibrate
from bothways.evaluation.evaluate import evaluate_each
from bothways.files.writing import refuse_existing
from bothways.finetuning.config import FinetuningConfig, ResolvedConfig, resolved
from bothways.finetuning.data import Data, read_data
from bothways.finetuning.examples import Examples
from bothways.finetuning.imbalance import balanced
from bothways.finetuning.task_file import FinetuningTask, TaskTable
from bothways.formats.hub import AUTO, locate
from bothways.formats.model_card import classifier_card
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import default_device, fast_precision, tokens_at_once
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.randomness import keeping_torch_state
from bothways.tables.joining import join
from bothways.tables.table import Columns, Table, learn_outputs
from bothways.tasks import tasks_of
from bothways.tokenizer import Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.log import TrainingLog
from bothways.training.loop import Report, train

AfterUpdate = Callable[[Bert, TrainingLog], None]
"""What is called after each update, with the model as it is."""


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and what was learned about it."""

    bert: Bert
    tokenizer: Tokenizer
    log: TrainingLog
    metrics: dict[str, Any] = field(default_factory=dict)


def resolved_for(config: FinetuningConfig, bert: Bert, rows: int) -> ResolvedConfig:
    """The settings with what is left open chosen for an encoder, a table of `rows` and this machine."""
    encoder, device = bert.config.encoder, default_device()
    return resolved(
        config,
        width=encoder.hidden_size,
        max_length=bert.config.longest,
        dropout=encoder.dropout,
        rows=rows,
        micro_batch_tokens=tokens_at_once(device),
        precision=fast_precision(device),
    )


def fit(
    bert: Bert,
    tokenizer: Tokenizer,
    table: Table,
    config: FinetuningConfig | None = None,
    *,
    outputs: Sequence[OutputConfig] | None = None,
    after_update: AfterUpdate | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Put fresh output layers (those the table asks for, unless given) on `bert` and train all of it, in place."""
    chosen = resolved_for(config or FinetuningConfig(), bert, len(table))
    outputs = tuple(
        replace(output, reads=chosen.pooling) if output.reads == "first" else output
        for output in balanced(outputs or learn_outputs(table), table, chosen.imbalance)
    )
    columns = table.columns
    bert.config = replace(
        bert.config,
        max_length=chosen.max_length,
        text_columns=(columns.text,) if table.pairs is None else (columns.text, columns.text_pair or "text_pair"),
    )
    bert.set_dropout(chosen.dropout)
    with keeping_torch_state():
        torch.manual_seed(chosen.seed)
        bert.attach(*outputs)
    encodings = tokenizer.encode_batch(
        table.texts, table.pairs, max_length=bert.config.longest, with_offsets=columns.pretokenized
    )
    tasks = tasks_of(outputs)
    standardized = {task.name: task.standardize(table.targets(task)) for task in tasks}
    targets = {name: easy for name, (easy, _) in standardized.items()}
    log = train(
        bert,
        Examples(encodings, targets, tasks, chosen),
        TrainingConfig.of(chosen),
        after_update=after_update,
        report=Report(name="fine-tuning", quiet=quiet),
    )
    for name, (_, restore) in standardized.items():
        restore(bert.output(name))
    log.truncated = sum(encoding.dropped > 0 for encoding in encodings)
    return log


@dataclass(frozen=True)
class Training:
    """All that a training needs but its settings; can be done any number of times."""

    directory: Path
    """Where the encoder is."""
    data: Data
    """Rows to train on and to evaluate on."""

    def __call__(self, config: FinetuningConfig, *, after_update: AfterUpdate | None = None) -> Finetuned:
        """Train with some settings, and evaluate the result. `after_update`: see `training.loop.train`."""
        bert, tokenizer, _ = load_model(self.directory)
        rows = self.data.train
        chosen = resolved_for(config, bert, len(rows))
        log = fit(bert, tokenizer, rows, chosen, outputs=self.data.outputs, after_update=after_update)
        if log.truncated:
            print(
                f"{log.truncated:,} of {len(rows):,} training texts are longer than {bert.config.longest} tokens and "
                f"are truncated.",
                file=sys.stderr,
            )
        dev = join(self.data.dev, self.data.evaluated_on) if self.data.dev else rows.take([])
        calibration = calibrate(bert, tokenizer, rows, dev, coverage=config.coverage, seed=config.seed)
        metrics = evaluate_each(Engine(bert, tokenizer), self.data.dev) | {"calibration": calibration}
        metrics["evaluated_on"] = self.data.evaluated_on
        metrics["training"] = described(log, chosen, len(rows))
        return Finetuned(bert, tokenizer, log, metrics)


Strategy = Callable[[Training, FinetuningConfig], Finetuned]
"""Which trainings are done, and whose classifier is kept: one (`once`), or some (`seeds.Seeds`, `search.Search`)."""


def once(training: Training, config: FinetuningConfig) -> Finetuned:
    """One training, with the settings given."""
    return training(config)


def finetune(
    train_file: str | os.PathLike | FinetuningTask,
    out: str | os.PathLike,
    *,
    encoder: str | os.PathLike = AUTO,
    dev_file: str | os.PathLike | None = None,
    columns: Columns | None = None,
    config: FinetuningConfig | None = None,
    strategy: Strategy = once,
    overwrite: bool = False,
) -> Finetuned:
    """Train a classifier from a table, or from the tables of a task, and write it, with `metrics.json`, to the
    directory `out`.

    What is given here wins over what a task says of encoder and settings. Raises InputError for what the user has to
    correct, before the training starts wherever it can be known then.
    """
    task = as_task(train_file, dev_file, columns)
    encoder, config = task.encoder if encoder == AUTO else encoder, config or task.settings
    refuse_existing(out, overwrite, reads=(*task.files, encoder))
    data = read_data(task, config)
    directory = locate(encoder, data.train.texts)
    print(load_model(directory)[-1], file=sys.stderr)
    done = strategy(Training(directory, data), config)
    save_model(
        out,
        done.bert,
        done.tokenizer,
        card=classifier_card(done.bert.config, done.metrics, directory.name if encoder == AUTO else Path(encoder).name),
        extra_files={"metrics.json": json.dumps(done.metrics, indent=2, ensure_ascii=False) + "\n"},
        overwrite=overwrite,
    )
    return done


def as_task(
    train: str | os.PathLike | FinetuningTask, dev: str | os.PathLike | None, columns: Columns | None
) -> FinetuningTask:
    """One table as a task of its own. InputError if a task is given and more about tables beside it."""
    if not isinstance(train, FinetuningTask):
        return FinetuningTask(tables=(TaskTable(train=train, dev=dev, columns=columns or Columns()),))
    if dev is not None or columns is not None:
        raise InputError(f"{train.source}: a task names tables to evaluate on and columns by itself; put them there.")
    return train


def described(log: TrainingLog, config: ResolvedConfig, rows: int) -> dict[str, Any]:
    """A training as it goes into metrics.json."""
    return {
        "examples": rows,
        "truncated": log.truncated,
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "losses": {name: round(entries[-1][1], 4) for name, entries in log.losses.items()},
        "settings": asdict(config),
    }
