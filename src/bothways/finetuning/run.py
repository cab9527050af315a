"""The recipe: a table + your output layers → a trained classifier, evaluated on rows it has not seen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bothways.evaluation.evaluate import evaluate
from bothways.files.writing import refuse_existing
from bothways.finetuning.config import FinetuningConfig, ResolvedConfig, resolved
from bothways.finetuning.examples import Examples, share_of_long
from bothways.formats.hub import AUTO, locate
from bothways.formats.model_card import classifier_card
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import default_device, fast_precision, tokens_at_once
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.randomness import keeping_torch_state
from bothways.tables.table import Columns, Table, learn_outputs, read_table, remarks, split_off
from bothways.tasks import tasks_of
from bothways.tokenizer import Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.log import TrainingLog
from bothways.training.loop import Report, train


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and what was learned about it."""

    bert: Bert
    tokenizer: Tokenizer
    log: TrainingLog
    metrics: dict[str, Any] = field(default_factory=dict)


def resolved_for(config: FinetuningConfig, bert: Bert, rows: int, *, long: float = 0.0) -> ResolvedConfig:
    """The settings with what is left open chosen for an encoder, a table of `rows` and this machine. `long`: see
    `share_of_long`."""
    encoder, device = bert.config.encoder, default_device()
    return resolved(
        config,
        width=encoder.hidden_size,
        max_length=bert.config.longest,
        dropout=encoder.dropout,
        rows=rows,
        long=long,
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
    quiet: bool = False,
) -> TrainingLog:
    """Put fresh output layers (those the table asks for, unless given) on `bert` and train all of it, in place."""
    config = config or FinetuningConfig()
    chosen = resolved_for(config, bert, len(table), long=share_of_long(config, bert, tokenizer, table))
    outputs = tuple(
        replace(output, reads=chosen.pooling) if output.reads == "first" else output
        for output in outputs or learn_outputs(table)
    )
    columns = table.columns
    bert.config = replace(
        bert.config,
        outputs=outputs,
        max_length=chosen.max_length,
        long_texts=chosen.long_texts,
        overlap=chosen.overlap,
        most_windows=chosen.most_windows,
        text_columns=(columns.text,) if table.pairs is None else (columns.text, columns.text_pair or "text_pair"),
    )
    bert.set_dropout(chosen.dropout)
    with keeping_torch_state():
        torch.manual_seed(chosen.seed)
        bert.attach(*outputs)
    encodings = tokenizer.encode_batch(
        table.texts,
        table.pairs,
        max_length=bert.config.longest,
        selection=bert.config.selection,
        with_offsets=columns.pretokenized,
    )
    tasks = tasks_of(outputs)
    standardized = {task.name: task.standardize(table.targets(task)) for task in tasks}
    targets = {name: easy for name, (easy, _) in standardized.items()}
    log = train(
        bert,
        Examples(encodings, targets, tasks, chosen),
        TrainingConfig.of(chosen),
        report=Report(name="fine-tuning", quiet=quiet),
    )
    for name, (_, restore) in standardized.items():
        restore(bert.output(name))
    log.truncated = sum(encoding.dropped > 0 for encoding in encodings)
    dropped = sum(encoding.dropped for encoding in encodings)
    log.dropped = dropped / max(1, dropped + sum(encoding.read for encoding in encodings))
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

    Raises InputError for what the user has to correct, before the training starts wherever it can be known then.
    """
    config = config or FinetuningConfig()
    refuse_existing(out, overwrite, reads=(train_file, dev_file, encoder))
    table = read_table(train_file, columns or Columns(), find_pair=True)
    outputs = learn_outputs(table)
    if dev_file is not None:
        dev = read_table(dev_file, table.columns)
    else:
        table, dev = split_off(table, config.held_out, at_most=2000, seed=config.seed)
        if config.held_out and not len(dev):
            print("No row can be held out, since every label needs one to train on.", file=sys.stderr)
    for remark in remarks(outputs, dev):
        print(remark, file=sys.stderr)
    for task in tasks_of(outputs):  # a label that training has not seen is said now, not after an hour
        dev.targets(task)
    directory = locate(encoder, table.texts)
    bert, tokenizer, report = load_model(directory)
    print(report, file=sys.stderr)
    chosen = resolved_for(config, bert, len(table), long=share_of_long(config, bert, tokenizer, table))
    if chosen.long_texts == "windows" and config.long_texts is None:
        print(
            f"Many of the training texts are longer than {chosen.max_length} tokens, so they are read in windows; "
            f"--long-texts head would be faster.",
            file=sys.stderr,
        )
    log = fit(bert, tokenizer, table, chosen, outputs=outputs)
    if log.truncated:
        print(
            f"{log.truncated:,} of {len(table):,} training texts are longer than {bert.config.longest_text} tokens and "
            f"are truncated. {log.dropped:.1%} of all tokens are not read.",
            file=sys.stderr,
        )
    metrics = evaluate(Engine(bert, tokenizer), dev) if len(dev) else {"examples": 0, "outputs": {}}
    metrics["evaluated_on"] = f"{len(dev)} rows held out of {train_file}" if dev_file is None else os.fspath(dev_file)
    metrics["training"] = described(log, chosen, len(table))
    save_model(
        out,
        bert,
        tokenizer,
        card=classifier_card(bert.config, metrics, directory.name if encoder == AUTO else Path(encoder).name),
        extra_files={"metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n"},
        overwrite=overwrite,
    )
    return Finetuned(bert, tokenizer, log, metrics)


def described(log: TrainingLog, config: ResolvedConfig, rows: int) -> dict[str, Any]:
    """A training as it goes into metrics.json."""
    return {
        "examples": rows,
        "truncated": log.truncated,
        "share_of_tokens_dropped": round(log.dropped, 4),
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "losses": {name: round(entries[-1][1], 4) for name, entries in log.losses.items()},
        "settings": asdict(config),
    }
