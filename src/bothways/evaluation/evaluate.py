"""How good a model is on a table: for each output layer the metrics that its field quotes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from bothways.files.names import without_secrets
from bothways.inference.engine import Engine
from bothways.tables.joining import as_read
from bothways.tables.table import Table, columns_of, read_tables
from bothways.tasks import Task
from bothways.tasks.metrics import Metrics


def evaluate_file(engine: Engine, path: str | os.PathLike) -> dict[str, Any]:
    """Evaluate a model on a table with the columns it was trained on, in memory that does not grow; see `evaluate`.

    What was trained on several tables is evaluated on one of them, so outputs that it has no column for are left out.
    """
    columns = columns_of(engine.config.text_columns, [task.output for task in engine.tasks])
    if os.path.isfile(path):  # a pipe is read once; a file twice, so that what is wrong in it is said before the work
        for table in read_tables(path, columns, engine.window, find_labels=True):
            for task in tasks_in(engine, table):
                table.targets(task)
        for label in columns.labels:
            if label.output not in table.values:
                print(f"{path}: there is no column {label.column!r}, so {label.output!r} is left out.", file=sys.stderr)
    return evaluate(engine, read_tables(path, columns, engine.window, find_labels=True))


def evaluate(engine: Engine, tables: Iterable[Table]) -> dict[str, Any]:
    """Evaluate a model on a table, or on the parts of one.

    Returns `{"examples": n, "truncated": n, "outputs": {NAME: {"kind": …, metrics}}}`; rows that say nothing for an
    output are left out of its metrics, and its "examples" tells how many counted. Outputs that no table has are left
    out. Raises InputError for a label that training did not see.
    """
    whole = Measured()
    for table in tables:
        measure(engine, table, whole)
    return whole.result(engine)


def evaluate_each(engine: Engine, tables: Sequence[Table]) -> dict[str, Any]:
    """Evaluate a model on several tables: as `evaluate` does, with `"tables"`, the same of each by its file."""
    whole, parts = Measured(), {without_secrets(table.source): Measured() for table in tables}
    for table in tables:
        measure(engine, table, whole, parts[without_secrets(table.source)])
    each = {source: part.result(engine) for source, part in parts.items()}
    return whole.result(engine) | ({"tables": each} if len(tables) > 1 else {})


class Measured:
    """What is counted while a model is evaluated."""

    def __init__(self) -> None:
        self.examples, self.truncated = 0, 0
        self.metrics: dict[str, Metrics] = {}

    def result(self, engine: Engine) -> dict[str, Any]:
        """As `evaluate` returns it."""
        found = {task.name: (task.kind, self.metrics[task.name]) for task in engine.tasks if task.name in self.metrics}
        return {
            "examples": self.examples,
            "truncated": self.truncated,
            "outputs": {name: {"kind": kind, **metrics.result()} for name, (kind, metrics) in found.items()},
        }


def measure(engine: Engine, table: Table, *counted: Measured) -> None:
    """Have a model read a table once, and count what it says in each of `counted`."""
    tasks = tasks_in(engine, table)
    expected = {task.name: table.targets(task) for task in tasks}
    for one in counted:
        one.examples += len(table)
        one.metrics.update({task.name: Metrics(task) for task in tasks if task.name not in one.metrics})
    read = 0
    for predictions in engine.predict(as_read(table.texts, engine.pretokenized), table.pairs):
        rows = slice(read, read := read + len(predictions.encodings))
        for one in counted:
            one.truncated += predictions.truncated
        for task in tasks:
            probabilities = task.probabilities(predictions)
            for one in counted:
                one.metrics[task.name].add(expected[task.name][rows], probabilities)


def tasks_in(engine: Engine, table: Table) -> list[Task]:
    """The outputs of a model that a table has."""
    return [task for task in engine.tasks if task.name in table.values]
