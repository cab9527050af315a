"""How good a model is on a table: for each output layer the metrics that its field quotes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bothways.inference.engine import Engine
from bothways.tables.joining import as_read
from bothways.tables.table import Table, columns_of, read_table
from bothways.tasks import Task
from bothways.tasks.task import Decision, Target


def evaluate_file(engine: Engine, path: str | os.PathLike) -> dict[str, Any]:
    """Evaluate a model on a table with the columns it was trained on; see `evaluate`.

    What was trained on several tables is evaluated on one of them, so outputs that it has no column for are left out.
    """
    columns = columns_of(engine.config.text_columns, [task.output for task in engine.tasks])
    table = read_table(path, columns, find_labels=True)
    for label in columns.labels:
        if label.output not in table.values:
            print(f"{path}: there is no column {label.column!r}, so {label.output!r} is left out.", file=sys.stderr)
    return evaluate(engine, table)


def evaluate(engine: Engine, *tables: Table) -> dict[str, Any]:
    """Evaluate a model on a table, or on several together.

    Returns `{"examples": n, "truncated": n, "outputs": {NAME: {"kind": …, metrics}}}`; rows that say nothing for an
    output are left out of its metrics, and its "examples" tells how many counted. Outputs that no table has are left
    out. Of several tables, `"tables"` has the same for each, by its file. Raises InputError for a label that training
    did not see.
    """
    decided = [Decided.by(engine, table) for table in tables]
    metrics = measured(decided)
    if len(tables) > 1:
        metrics["tables"] = {one.table.source: measured([one]) for one in decided}
    return metrics


@dataclass(frozen=True)
class Decided:
    """A table, and what a model decides about its rows; decisions alone are kept, since probabilities are many."""

    table: Table
    tasks: tuple[Task, ...]
    """The outputs that the table has."""
    expected: dict[str, list[Target]]
    """By output, a row each."""
    decisions: dict[str, list[Decision]]
    """The same of what was decided."""
    truncated: int
    """Texts that were longer than the model reads."""

    @classmethod
    def by(cls, engine: Engine, table: Table) -> Decided:
        """What the model in `engine` decides."""
        tasks = tuple(task for task in engine.tasks if task.name in table.values)
        expected = {task.name: table.targets(task) for task in tasks}
        decisions: dict[str, list[Decision]] = {task.name: [] for task in tasks}
        truncated = 0
        for predictions in engine.predict(as_read(table.texts, engine.pretokenized), table.pairs):
            truncated += predictions.truncated
            for task in tasks:
                decisions[task.name] += [task.decide(p) for p in task.probabilities(predictions)]
        return cls(table, tasks, expected, decisions, truncated)


def measured(parts: Sequence[Decided]) -> dict[str, Any]:
    """The metrics over all rows of some tables."""
    tasks = {task.name: task for part in parts for task in part.tasks}

    def rows(name: str, decided: Literal["expected", "decisions"]) -> list[Any]:
        return [row for part in parts for row in getattr(part, decided).get(name, ())]

    return {
        "examples": sum(len(part.table) for part in parts),
        "truncated": sum(part.truncated for part in parts),
        "outputs": {
            name: {"kind": task.kind, **task.metrics(rows(name, "expected"), rows(name, "decisions"))}
            for name, task in tasks.items()
        },
    }
