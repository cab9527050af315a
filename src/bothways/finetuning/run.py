"""The recipe: a table + your output layers → a trained classifier, evaluated on rows it has not seen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate_each
from bothways.evaluation.findings import as_json, show
from bothways.evaluation.observation import Observation, observe
from bothways.evaluation.report import named, report_page
from bothways.evaluation.stored import EVALUATION, evaluation_json
from bothways.evaluation.token_checks import check_tokens
from bothways.explanation.examples import keep_examples
from bothways.files.names import public_name
from bothways.files.writing import refuse_existing, require_space, write_atomically
from bothways.finetuning.collapse import restarted
from bothways.finetuning.config import FinetuningConfig, ResolvedConfig, within
from bothways.finetuning.data import Data, read_data
from bothways.finetuning.fit import fit, learn_scores, resolve
from bothways.finetuning.task_file import FinetuningTask, TaskTable
from bothways.formats.hub import AUTO, about_larger, locate
from bothways.formats.model_card import classifier_card
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.tables.table import Columns
from bothways.tokenizer import Tokenizer
from bothways.training.log import TrainingLog
from bothways.training.loop import AfterUpdate


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier and what was learned about it."""

    bert: Bert
    tokenizer: Tokenizer
    log: TrainingLog
    metrics: dict[str, Any] = field(default_factory=dict)


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
        outputs, dev = self.data.outputs, self.data.evaluated
        chosen = resolve(config, bert, tokenizer, rows, outputs)
        log = fit(bert, tokenizer, rows, chosen, outputs=outputs, dev=dev, after_update=after_update)
        if log.truncated:
            print(
                f"{log.truncated:,} of {len(rows):,} training texts are longer than {bert.config.longest_text} tokens "
                f"and are truncated. {log.dropped:.1%} of all tokens are not read.",
                file=sys.stderr,
            )
        calibration = learn_scores(bert, tokenizer, rows, dev, config)
        metrics = evaluate_each(Engine(bert, tokenizer), self.data.dev) | {"calibration": calibration}
        put_honest(metrics, {name: told.pop("measured") for name, told in calibration.items()})
        metrics["evaluated_on"] = self.data.evaluated_on
        metrics["training"] = described(log, chosen, len(rows))
        return Finetuned(bert, tokenizer, log, metrics)


def put_honest(metrics: dict[str, Any], measured: dict[str, dict[str, Any]]) -> None:
    """Put what was `measured` with temperatures and thresholds of other rows in place of the metrics of the same rows;
    of an output of several tables only in the metrics of all."""
    for part in (metrics, *metrics.get("tables", {}).values()):
        for name, found in part["outputs"].items():
            if found["examples"] == measured.get(name, {}).get("examples"):
                found.update(measured[name])


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
    keep_rows: bool = False,
    overwrite: bool = False,
) -> Finetuned:
    """Train a classifier from a table, or from the tables of a task, and write it, with `metrics.json`, to the
    directory `out`.

    `keep_rows`: keep the training rows there, too (`explanation.examples`).
    What is given here wins over what a task says of encoder and settings. Raises InputError for what the user has to
    correct, before the training starts wherever it can be known then.
    """
    task = as_task(train_file, dev_file, columns)
    encoder, config = task.encoder if encoder == AUTO else encoder, config or task.settings
    refuse_existing(out, overwrite, reads=(*task.files, encoder))
    data = read_data(task, config)
    directory = locate(encoder, data.train.texts)
    bert, tokenizer, report = load_model(directory)
    require_space(out, sum(weight.nbytes for weight in bert.state_dict().values()))
    print(report, file=sys.stderr)
    if encoder == AUTO and (more := about_larger(directory.name)):
        print(more, file=sys.stderr)
    config, reduced = within(config, bert.config)
    if reduced:
        print(reduced, file=sys.stderr)
    chosen = resolve(config, bert, tokenizer, data.train, data.outputs)
    if chosen.long_texts == "windows" and config.long_texts is None:
        print(
            f"Many of the training texts are longer than {chosen.max_length} tokens, so they are read in windows; "
            f"--long-texts head would be faster.",
            file=sys.stderr,
        )
    in_windows, name = chosen.long_texts == "windows", public_name(data.train.source)
    findings = [*data.findings, *check_tokens(name, data.train, tokenizer, chosen.max_length, in_windows=in_windows)]
    show(findings, sys.stderr)
    done = strategy(Training(directory, data), config)
    done.metrics["checks"] = as_json(findings)
    named_encoder = directory.name if encoder == AUTO else Path(encoder).name
    save_model(
        out,
        done.bert,
        done.tokenizer,
        card=classifier_card(done.bert.config, done.metrics, named_encoder),
        extra_files={"metrics.json": json.dumps(done.metrics, indent=2, ensure_ascii=False) + "\n"},
        overwrite=overwrite,
    )
    if keep_rows:
        keep_examples(out, Engine(done.bert, done.tokenizer), data.train)
    # After the model, which is safe by now whatever a page may run into.
    observed = observation_of(done, data, named_encoder, out)
    write_atomically(Path(out) / "report.html", report_page(observed))
    write_atomically(Path(out) / EVALUATION, evaluation_json(observed))
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


def observation_of(done: Finetuned, data: Data, encoder: str, out: str | os.PathLike) -> Observation:
    """What the report shows of a training."""
    seen, outputs = observe(Engine(done.bert, done.tokenizer), data.evaluated, done.metrics["calibration"])
    return Observation(
        title=Path(out).resolve().name,
        encoder=encoder,
        path=named(out),
        metrics=done.metrics,
        texts=seen.texts,
        pairs=seen.pairs,
        rows=seen.rows,
        outputs=outputs,
        losses=done.log.losses,
        followed=done.log.followed,
        checks=done.metrics["checks"],
    )


def described(log: TrainingLog, config: ResolvedConfig, rows: int) -> dict[str, Any]:
    """A training as it goes into metrics.json."""
    return {
        "examples": rows,
        "truncated": log.truncated,
        "share_of_tokens_dropped": round(log.dropped, 4),
        "updates": log.updates,
        "tokens": log.tokens,
        "seconds": round(log.seconds, 2),
        "restarts": log.restarts,
        "best_update": log.best_update,
        "losses": {name: round(entries[-1][1], 4) for name, entries in log.losses.items()},
        "settings": asdict(restarted(config, log.restarts)),
    }
