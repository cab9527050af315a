"""What is known of a classifier after its training: all that its report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bothways.evaluation.evaluate import tasks_in
from bothways.inference.engine import Engine
from bothways.tables.joining import as_read
from bothways.tables.table import Table
from bothways.tasks import Task
from bothways.tasks.task import Target
from bothways.tokenizer import Text

MOST_ROWS = 5000
"""`observe` looks at so many rows at most: their texts are for a person to read."""


@dataclass(frozen=True, kw_only=True)
class OutputObservation:
    """What one output layer says of the rows it was evaluated on."""

    task: Task
    """What it decides."""
    expected: Sequence[Target]
    """(rows,) as `Task.targets` gives them; those that say nothing are left out."""
    probabilities: Sequence[np.ndarray]
    """(rows, width), or for each row (words, labels), as `Task.probabilities` gives them."""
    known_scores: np.ndarray | None = None
    """(rows,) how far each text is from what training has seen; None: not measured."""
    threshold: float | None = None
    """From which distance on a text counts as none of the classes."""
    calibration: Mapping[str, Any] | None = None
    """`{"temperature", "before", "after", "bins": [{"confidence", "accuracy", "examples"}]}`: expected calibration
    errors with and without the temperature; None: the probabilities were left as they are."""

    @property
    def labelled(self) -> np.ndarray:
        """(labelled rows,) int64: the rows that say something."""
        return np.array([row for row, target in enumerate(self.expected) if self.task.labelled(target)], np.int64)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All that a report shows; what is None or empty is left out."""

    title: str
    """What the classifier is called."""
    encoder: str
    """From which encoder it was trained."""
    path: str
    """Where the model directory is, for the lines that use it."""
    metrics: Mapping[str, Any]
    """What `metrics.json` holds."""
    texts: Sequence[Text]
    """(rows,) the texts it was evaluated on."""
    pairs: Sequence[Text] | None = None
    """(rows,) the second texts."""
    rows: Sequence[str]
    """(rows,) where each stands in its file."""
    outputs: Sequence[OutputObservation] = ()
    """One for each output layer."""
    losses: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """By output: (update, loss)."""
    followed: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """By metric that early stopping goes by: (update, what it was on the rows to evaluate on)."""
    checks: Sequence[Mapping[str, Any]] = ()
    """What is to be known of the table: `{"check", "count", "share", "sentence", "examples"}` each."""


def observe(
    engine: Engine, table: Table, calibration: Mapping[str, Mapping[str, Any]]
) -> tuple[Table, list[OutputObservation]]:
    """What a model says of a table, or of `MOST_ROWS` of its rows, evenly spaced: (those rows, the findings).

    `calibration`: by output, what `evaluation.calibration.calibrate` told.
    """
    if len(table) > MOST_ROWS:
        table = table.take(np.linspace(0, len(table) - 1, MOST_ROWS).astype(int).tolist())
    tasks = tasks_in(engine, table)  # of several tables one may have had no row to hold out
    said: dict[str, list[np.ndarray]] = {task.name: [] for task in tasks}
    distances: dict[str, list[float]] = {task.name: [] for task in tasks}
    for predictions in engine.predict(as_read(table.texts, engine.pretokenized), table.pairs):
        for task in tasks:
            said[task.name] += list(task.probabilities(predictions))
            if task.detector is not None:
                distances[task.name] += predictions.logits[task.detector.name][:, 0].tolist()
    found = [
        OutputObservation(
            task=task,
            expected=table.targets(task),
            probabilities=said[task.name],
            known_scores=np.array(distances[task.name]) if distances[task.name] else None,
            threshold=None if task.detector is None else task.detector.distance_threshold,
            calibration=calibration.get(task.name),
        )
        for task in tasks
    ]
    return table, found
