"""How good a model is on a table: for each kind of output layer the figures its field quotes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from bothways.batch import UNLABELLED
from bothways.inference.answers import most_likely, thresholds
from bothways.inference.engine import Engine
from bothways.model.config import OutputConfig
from bothways.tables.table import Columns, Table, columns_of, read_table, targets_of


def evaluate_file(engine: Engine, path: str | os.PathLike) -> dict[str, Any]:
    """Judge a model on a table with the columns it was trained on; see `evaluate`."""
    config = engine.bert.config
    columns: Columns = columns_of(config.text_columns, [o for o in config.outputs if o.name in engine.names])
    return evaluate(engine, read_table(path, columns))


def evaluate(engine: Engine, table: Table) -> dict[str, Any]:
    """Judge a model on a table.

    Returns `{"examples": n, "truncated": n, "outputs": {NAME: {"kind": …, figures}}}`; rows that say nothing for an
    output are left out of its figures, and its "examples" tells how many counted. Raises InputError for a label that
    training did not see.
    """
    outputs = [engine.bert.output(name).config for name in engine.names]
    truths = {output.name: targets_of(table, output) for output in outputs}
    answers: dict[str, list[np.ndarray]] = {output.name: [] for output in outputs}
    truncated = 0
    for scores in engine.scores(table.texts, table.pairs):
        truncated += int((scores.dropped > 0).sum())
        for output in outputs:
            answers[output.name] += [decide(output, p) for p in scores.probabilities[output.name]]
    return {
        "examples": len(table),
        "truncated": truncated,
        "outputs": {
            output.name: {"kind": output.kind, **figures(output, truths[output.name], answers[output.name])}
            for output in outputs
        },
    }


def decide(output: OutputConfig, probabilities: np.ndarray) -> np.ndarray:
    """The decision alone, so that probabilities need not be kept: a class, the labels present, a number, or tags."""
    if output.kind == "regression":
        return probabilities[0]
    if output.kind == "multi":
        return probabilities >= thresholds(output)
    if output.kind == "tags":
        return most_likely(probabilities)
    return probabilities.argmax(-1)


def figures(output: OutputConfig, truth: list[Any], answers: list[np.ndarray]) -> dict[str, Any]:
    """The figures of one output, over the rows that say something for it."""
    if output.kind == "tags":
        return tag_metrics(output.labels, truth, answers)
    labelled = np.array([not missing(t) for t in truth])
    if not labelled.any():
        return {"examples": 0}
    true = np.array([t for t, here in zip(truth, labelled, strict=True) if here])
    said = np.array([a for a, here in zip(answers, labelled, strict=True) if here])
    judge = {"single": single_metrics, "multi": multi_metrics, "regression": regression_metrics}[output.kind]
    return {"examples": int(labelled.sum()), **{name: float(value) for name, value in judge(true, said).items()}}


def missing(target: Any) -> bool:
    """Whether a target says nothing."""
    return target is None or bool(np.isnan(target).all()) or (np.ndim(target) == 0 and target == UNLABELLED)


def single_metrics(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """(texts,) classes, true and said."""
    return {
        "accuracy": metrics.accuracy_score(true, said),
        "macro_f1": metrics.f1_score(true, said, average="macro", labels=np.unique(true), zero_division=0.0),
        "matthews_correlation": metrics.matthews_corrcoef(true, said),
    }


def multi_metrics(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """(texts, labels) presence, true and said; accuracy asks for all labels of a text to be right."""
    true = true > 0.5
    if true.shape[1] == 1:  # scikit-learn takes a lone column for two classes, present and absent
        f1 = metrics.f1_score(true.ravel(), said.ravel(), zero_division=0.0)
        return {"accuracy": metrics.accuracy_score(true, said), "macro_f1": f1, "micro_f1": f1}
    return {
        "accuracy": metrics.accuracy_score(true, said),
        "macro_f1": metrics.f1_score(true, said, average="macro", zero_division=0.0),
        "micro_f1": metrics.f1_score(true, said, average="micro", zero_division=0.0),
    }


def regression_metrics(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """(texts,) numbers, true and said; a correlation is 0 where one side never changes."""
    varies = np.ptp(true) > 0 and np.ptp(said) > 0
    return {
        "mean_absolute_error": metrics.mean_absolute_error(true, said),
        "mean_squared_error": metrics.mean_squared_error(true, said),
        "pearson": np.corrcoef(true, said)[0, 1] if varies else 0.0,
        "spearman": np.corrcoef(ranks(true), ranks(said))[0, 1] if varies else 0.0,
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,) → (n,): the rank of each value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def tag_metrics(labels: Sequence[str], truth: list[Any], answers: list[np.ndarray]) -> dict[str, Any]:
    """Accuracy by word and, where tags are B-…, I-… and O, F1 by whole entity (CoNLL-2000: type and both ends right).

    A word that was cut off counts as wrong.
    """
    rows = [(t, a) for t, a in zip(truth, answers, strict=True) if t is not None]
    words = sum(len(t) for t, _ in rows)
    result: dict[str, Any] = {
        "examples": len(rows),
        "words": words,
        "accuracy": sum(int((t == a).sum()) for t, a in rows) / max(1, words),
    }
    if any(label.startswith(("B-", "I-")) for label in labels):
        names = [*labels, "O"]  # -1, a word without a token, is no entity
        true = [entities([names[i] for i in t]) for t, _ in rows]
        said = [entities([names[i] for i in a]) for _, a in rows]
        right = sum(len(t & s) for t, s in zip(true, said, strict=True))
        result["precision"] = right / max(1, sum(map(len, said)))
        result["recall"] = right / max(1, sum(map(len, true)))
        result["f1"] = 2 * right / max(1, sum(map(len, said)) + sum(map(len, true)))
    return result


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Tags of the words of a text → its entities as (type, first word, word after the last)."""
    found = set()
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if kind and (mark != "I" or name != kind):
            found.add((kind, start, i))
            kind = ""
        if mark == "B" or (mark == "I" and not kind):
            start, kind = i, name
    return found
