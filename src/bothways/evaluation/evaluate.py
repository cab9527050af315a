"""How good a model is on a table: for each output layer the metrics that its field quotes."""

from __future__ import annotations

import os
from typing import Any

from bothways.inference.engine import Engine
from bothways.tables.table import Table, columns_of, read_table


def evaluate_file(engine: Engine, path: str | os.PathLike) -> dict[str, Any]:
    """Evaluate a model on a table with the columns it was trained on; see `evaluate`."""
    columns = columns_of(engine.config.text_columns, [task.output for task in engine.tasks])
    return evaluate(engine, read_table(path, columns))


def evaluate(engine: Engine, table: Table) -> dict[str, Any]:
    """Evaluate a model on a table.

    Returns `{"examples": n, "truncated": n, "outputs": {NAME: {"kind": …, metrics}}}`; rows that say nothing for an
    output are left out of its metrics, and its "examples" tells how many counted. Raises InputError for a label that
    training did not see.
    """
    expected = {task.name: table.targets(task) for task in engine.tasks}
    decisions: dict[str, list[Any]] = {task.name: [] for task in engine.tasks}
    truncated = 0
    for predictions in engine.predict(table.texts, table.pairs):
        truncated += predictions.truncated
        for task in engine.tasks:  # decisions alone are kept, since probabilities are many
            decisions[task.name] += [task.decide(p) for p in task.probabilities(predictions)]
    return {
        "examples": len(table),
        "truncated": truncated,
        "outputs": {
            task.name: {"kind": task.kind, **task.metrics(expected[task.name], decisions[task.name])}
            for task in engine.tasks
        },
    }
