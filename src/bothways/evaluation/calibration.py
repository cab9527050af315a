"""Scores that mean what they say, from rows that training has not seen: calibrated probabilities, thresholds, and what
is none of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bothways.batch import Predictions
from bothways.evaluation.evaluate import tasks_in
from bothways.evaluation.rejection import fit_detector, threshold_of
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.tables.joining import as_read
from bothways.tables.table import Table
from bothways.tasks import TASKS, Task
from bothways.tasks.metrics import Metrics
from bothways.tasks.task import Target
from bothways.tokenizer import Tokenizer

FEWEST = 10
"""With fewer rows held out nothing is fitted to them."""
MOST = 10_000
"""Of more rows so many are drawn."""


def calibrate(
    bert: Bert, tokenizer: Tokenizer, train: Table, held_out: Table, *, coverage: float | None = None, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Give each output layer of a trained model a temperature, thresholds where its kind has them, and, if it chooses
    one of several classes, a layer that tells which texts are of none of them; with `coverage` also prediction sets.

    Returns by output what came of it, `{"temperature": t, "before": e, "after": e, "bins": […], "known": share}`, where
    e is the expected calibration error. That of after is honest: each half of the rows is measured with the temperature
    and thresholds of the other half. So are all metrics, in "measured", which is empty where there are more than `MOST`
    rows, of which few numbers learn nothing that other rows lack. Outputs with fewer than `FEWEST` rows that say
    something stay as they are.
    """
    rows = held_out.take(np.sort(np.random.default_rng(seed).permutation(len(held_out))[:MOST]))
    engine = Engine(bert, tokenizer)
    encodings = engine.encode(as_read(rows.texts, engine.pretokenized), rows.pairs)
    predictions = engine.run(encodings)
    told: dict[str, dict[str, Any]] = {}
    for task in tasks_in(engine, rows):
        targets = rows.targets(task)
        if sum(map(task.labelled, targets)) < FEWEST:
            continue
        output = task.calibrated(predictions, targets)
        calibrated = TASKS[output.kind](output)
        measured = reliability(task, predictions, targets)
        if coverage is not None:
            output = calibrated.with_sets(predictions, targets, coverage)
        bert.configure(output)
        if measured is not None:
            told[task.name] = {"temperature": output.temperature, **measured}
            if len(rows) < len(held_out):
                told[task.name]["measured"] = {}
        if task.exclusive:
            detector = fit_detector(bert, engine, task, train, seed=seed)
            distances = detector.distances(engine.represent(encodings, output.reads))
            labelled = np.array([task.labelled(target) for target in targets])
            threshold = threshold_of(distances[labelled])
            bert.configure(replace(detector.config, distance_threshold=threshold))
            told[task.name]["known"] = float((distances[labelled] <= threshold).mean())
    return told


def reliability(task: Task, predictions: Predictions, targets: Sequence[Target]) -> dict[str, Any] | None:
    """The expected calibration error before and after, and all metrics after; None for a kind of output without
    probabilities."""
    as_it_is, honest = Metrics(task), Metrics(task)
    as_it_is.add(targets, task.probabilities(predictions))
    labelled = [row for row, target in enumerate(targets) if task.labelled(target)]
    halves = labelled[::2], labelled[1::2]
    for rows, others in (halves, halves[::-1]):
        fitted = TASKS[task.kind](task.calibrated(part(predictions, others), [targets[i] for i in others]))
        honest.add([targets[i] for i in rows], fitted.probabilities(part(predictions, rows)), fitted)
    before, after = as_it_is.result(), honest.result()
    if "expected_calibration_error" not in before:
        return None
    return {
        "before": before["expected_calibration_error"],
        "after": after["expected_calibration_error"],
        "bins_before": before["bins"],
        "bins": after["bins"],
        "measured": after,
    }


def part(predictions: Predictions, rows: Sequence[int]) -> Predictions:
    """The predictions of some rows."""
    return Predictions(
        [predictions.encodings[i] for i in rows],
        {name: logits[rows] for name, logits in predictions.logits.items()},
        {name: [logits[i] for i in rows] for name, logits in predictions.token_logits.items()},
    )
