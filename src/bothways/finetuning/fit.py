"""Fresh output layers on an encoder, and all of it trained on a table: what every way of fine-tuning does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from bothways.errors import InputError
from bothways.evaluation.calibration import calibrate
from bothways.evaluation.number_formats import int8_agreement
from bothways.finetuning.collapse import RESTARTS, collapsed_outputs, restarted, say_collapsed
from bothways.finetuning.config import FinetuningConfig, ResolvedConfig, resolved, within
from bothways.finetuning.early_stopping import EarlyStopping, one_after_other
from bothways.finetuning.examples import Examples, share_of_long
from bothways.finetuning.imbalance import balanced
from bothways.finetuning.probe import start_from_features
from bothways.hardware import default_device, fast_precision, tokens_at_once
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.randomness import keeping_torch_state
from bothways.tables.table import Table, learn_outputs
from bothways.tasks import tasks_of
from bothways.tasks.task import Target
from bothways.tokenizer import Encoding, Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.log import TrainingLog
from bothways.training.loop import AfterUpdate, Report, train


def resolved_for(
    config: FinetuningConfig, bert: Bert, rows: int, outputs: Sequence[OutputConfig] = (), *, long: float = 0.0
) -> ResolvedConfig:
    """The settings with what is left open chosen for an encoder, a table of `rows`, `outputs` and this machine.
    `long`: see `share_of_long`. Of a text no more is read at once than the encoder has positions (`within`)."""
    encoder, device = bert.config.encoder, default_device()
    config, _ = within(config, bert.config)
    return resolved(
        config,
        width=encoder.hidden_size,
        max_length=bert.config.longest,
        dropout=encoder.dropout,
        deviation=float(bert.embeddings.token.weight.detach().std()),
        rows=rows,
        classes=max((len(output.labels) for output in outputs), default=0),
        texts=all(output.reads != "tokens" for output in outputs),
        long=long,
        micro_batch_tokens=tokens_at_once(device),
        precision=fast_precision(device),
    )


def resolve(
    config: FinetuningConfig, bert: Bert, tokenizer: Tokenizer, table: Table, outputs: Sequence[OutputConfig]
) -> ResolvedConfig:
    """`resolved_for` the training rows of a table, whose texts tell how many are long."""
    return resolved_for(config, bert, len(table), outputs, long=share_of_long(config, bert, tokenizer, table))


def fit(
    bert: Bert,
    tokenizer: Tokenizer,
    table: Table,
    config: FinetuningConfig | None = None,
    *,
    outputs: Sequence[OutputConfig] | None = None,
    dev: Table | None = None,
    after_update: AfterUpdate | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Put fresh output layers (those the table asks for, unless given) on `bert` and train all of it, in place.

    `dev`: rows to evaluate on, for early stopping. A training that collapses is started anew.
    """
    outputs = outputs or learn_outputs(table)
    chosen = resolve(config or FinetuningConfig(), bert, tokenizer, table, outputs)
    outputs = tuple(
        replace(output, reads=chosen.pooling) if output.reads == "first" else output
        for output in balanced(outputs, table, chosen.imbalance)
    )
    configure(bert, table, chosen, outputs)
    encodings = tokenizer.encode_batch(
        table.texts,
        table.pairs,
        max_length=bert.config.longest,
        selection=bert.config.selection,
        with_offsets=table.columns.pretokenized,
    )
    targets = {task.name: table.targets(task) for task in tasks_of(outputs)}
    bert.attach()
    encoder = {name: weight.detach().clone() for name, weight in bert.state_dict().items()}
    for restarts in range(RESTARTS + 1):
        log = fit_once(
            bert,
            tokenizer,
            encodings,
            targets,
            restarted(chosen, restarts),
            outputs=outputs,
            dev=dev,
            after_update=after_update,
            quiet=quiet,
        )
        log.restarts = restarts
        collapsed = collapsed_outputs(Engine(bert, tokenizer), encodings, targets)
        if not collapsed:
            break
        say_collapsed(collapsed, restarts)
        if restarts < RESTARTS:
            bert.attach()
            bert.load_state_dict(encoder)
    log.truncated = sum(encoding.dropped > 0 for encoding in encodings)
    dropped = sum(encoding.dropped for encoding in encodings)
    log.dropped = dropped / max(1, dropped + sum(encoding.read for encoding in encodings))
    return log


def learn_scores(
    bert: Bert, tokenizer: Tokenizer, train: Table, held_out: Table, config: FinetuningConfig
) -> dict[str, dict[str, Any]]:
    """What follows training: what the scores of a model mean, and whether it says the same in int8, learned in place
    from rows that it has not seen. Returns what `calibrate` does."""
    calibration = calibrate(bert, tokenizer, train, held_out, coverage=config.coverage, seed=config.seed)
    bert.config = replace(bert.config, int8=int8_agreement(bert, tokenizer, held_out, seed=config.seed))
    return calibration


def configure(bert: Bert, table: Table, config: ResolvedConfig, outputs: tuple[OutputConfig, ...]) -> None:
    """Tell a model how it will read the texts of a table, and for which outputs."""
    columns = table.columns
    bert.config = replace(
        bert.config,
        outputs=outputs,
        max_length=config.max_length,
        long_texts=config.long_texts,
        overlap=config.overlap,
        most_windows=config.most_windows,
        text_columns=(columns.text,) if table.pairs is None else (columns.text, columns.text_pair or "text_pair"),
    )
    bert.set_dropout(config.dropout)


def fit_once(
    bert: Bert,
    tokenizer: Tokenizer,
    encodings: Sequence[Encoding],
    targets: Mapping[str, Sequence[Target]],
    config: ResolvedConfig,
    *,
    outputs: tuple[OutputConfig, ...],
    dev: Table | None = None,
    after_update: AfterUpdate | None = None,
    quiet: bool = False,
) -> TrainingLog:
    """Put fresh `outputs` on `bert` and train all of it. `targets`: by output, one for each of the `encodings`."""
    with keeping_torch_state():
        torch.manual_seed(config.seed)
        bert.attach(*outputs)
    tasks = tasks_of(outputs)
    standardized = {task.name: task.standardize(targets[task.name]) for task in tasks}
    examples = Examples(
        encodings,
        {name: easy for name, (easy, _) in standardized.items()},
        tasks,
        epochs=config.epochs,
        batch_size=config.batch_size,
        micro_batch_tokens=config.micro_batch_tokens,
        seed=config.seed,
    )

    if config.linear_probe:
        start_from_features(bert, tokenizer, examples)

    def finish(trained: Bert) -> None:
        for name, (_, restore) in standardized.items():
            restore(trained.output(name))

    stopping = None
    if config.early_stopping != "none":
        if not dev:
            raise InputError("--early-stopping needs rows to evaluate on; name a table with --dev or hold some out.")
        stopping = EarlyStopping(config.early_stopping, dev, tokenizer, epoch_ends=examples.epoch_ends, finish=finish)
        stopping.value(bert, dev.take(range(min(len(dev), 20))))  # a metric that is none is told now
    calls = [call for call in (after_update, stopping) if call is not None]
    log = train(
        bert,
        examples,
        TrainingConfig.of(config),
        after_update=one_after_other(calls) if calls else None,
        report=Report(name="fine-tuning", quiet=quiet),
    )
    if stopping is None:
        finish(bert)
    else:
        stopping.restore(bert)
        log.best_update = stopping.best_update
        log.followed = {config.early_stopping: stopping.history}
    return log
