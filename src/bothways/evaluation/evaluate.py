"""How good a model is on a table: for each output layer the metrics that its field quotes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from bothways.inference.engine import Engine
from bothways.tables.table import Table, columns_of, read_tables
from bothways.tasks.metrics import Metrics


def evaluate_file(engine: Engine, path: str | os.PathLike) -> dict[str, Any]:
    """Evaluate a model on a table with the columns it was trained on, in memory that does not grow; see `evaluate`."""
    columns = columns_of(engine.config.text_columns, [task.output for task in engine.tasks])
    if os.path.isfile(path):  # a pipe is read once; a file twice, so that what is wrong in it is said before the work
        for table in read_tables(path, columns, engine.window):
            for task in engine.tasks:
                table.targets(task)
    return evaluate(engine, read_tables(path, columns, engine.window))


def evaluate(engine: Engine, tables: Iterable[Table]) -> dict[str, Any]:
    """Evaluate a model on a table, or on the parts of one.

    Returns `{"examples": n, "truncated": n, "outputs": {NAME: {"kind": …, metrics}}}`; rows that say nothing for an
    output are left out of its metrics, and its "examples" tells how many counted. Raises InputError for a label that
    training did not see.
    """
    examples, truncated = 0, 0
    metrics = {task.name: Metrics(task) for task in engine.tasks}
    for table in tables:
        expected = {task.name: table.targets(task) for task in engine.tasks}
        read = 0
        for predictions in engine.predict(table.texts, table.pairs):
            truncated += predictions.truncated
            rows = slice(read, read := read + len(predictions.encodings))
            for task in engine.tasks:
                metrics[task.name].add(expected[task.name][rows], task.probabilities(predictions))
        examples += len(table)
    return {
        "examples": examples,
        "truncated": truncated,
        "outputs": {task.name: {"kind": task.kind, **metrics[task.name].result()} for task in engine.tasks},
    }
