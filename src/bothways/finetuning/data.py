"""What a fine-tuning reads: the tables of a task, checked and split before anything is trained."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.task_file import FinetuningTask, TaskTable
from bothways.model.config import OutputConfig
from bothways.tables.joining import join
from bothways.tables.table import Table, labels_of, learn_outputs, read_table, remarks, split_off
from bothways.tasks import tasks_of
from bothways.tasks.task import shown

MOST_HELD_OUT = 2000
"""Rows of a table that are held out, at most."""
MANY_CLASSES = 1000
"""From so many labels on, a column in which most rows have one of their own is no column of labels."""


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to evaluate on."""

    train: Table
    """The training rows of all tables."""
    dev: tuple[Table, ...]
    """The rows to evaluate on, a table for each; none at all if nothing could be held out."""
    outputs: tuple[OutputConfig, ...]
    """The output layers that the training rows ask for."""
    evaluated_on: str
    """Where `dev` is from, in words."""


def read_data(task: FinetuningTask, config: FinetuningConfig) -> Data:
    """Read the tables of a task; rows to evaluate on are held out where none are named, the same for the same seed.

    Raises InputError for what the user has to correct in them. Remarks go to standard error.
    """
    trained = [read_table(table.train, table.columns, find_pair=True) for table in task.tables]
    join(trained, task.source)  # what does not go together is said before anything else
    outputs = learn_outputs(join(trained, task.source))
    split = [split_one(table, rows, config) for table, rows in zip(task.tables, trained, strict=True)]
    train = join([kept for kept, _ in split], task.source)
    dev = tuple(rows for _, rows in split if len(rows))
    for table in dev:  # a label that training has not seen is said now, not after an hour
        for output in tasks_of(outputs):
            if output.name in table.values:
                table.targets(output)
    for remark in (*lone_labels(outputs, train), *remarks(outputs, join(dev, task.source) if dev else train.take([]))):
        print(remark, file=sys.stderr)
    where = [described(table, rows) for table, (_, rows) in zip(task.tables, split, strict=True)]
    return Data(train, dev, outputs, " and ".join(where))


def split_one(table: TaskTable, rows: Table, config: FinetuningConfig) -> tuple[Table, Table]:
    """(training rows, rows to evaluate on) of one table."""
    require_classes(rows)
    if table.dev is not None:
        return rows, read_table(table.dev, rows.columns)
    kept, held_out = split_off(rows, config.held_out, at_most=MOST_HELD_OUT, seed=config.seed)
    if config.held_out and not len(held_out):
        print(f"{table.train}: no row can be held out, since every label needs one to train on.", file=sys.stderr)
    return kept, held_out


def described(table: TaskTable, rows: Table) -> str:
    """Where rows to evaluate on are from."""
    return f"{len(rows)} rows held out of {table.train}" if table.dev is None else os.fspath(table.dev)


def rows_of_labels(table: Table) -> Counter[tuple[str, str]]:
    """(output, label) → how many rows name it."""
    return Counter(label for row in range(len(table)) for label in labels_of(table, row))


def require_classes(table: Table) -> None:
    """Raise InputError for a column with so many labels, and most rows alone with theirs, that it must be another."""
    counts = rows_of_labels(table)
    for column in table.columns.labels:
        labels = [label for label in counts if label[0] == column.output]
        if len(labels) < MANY_CLASSES:
            continue
        alone = [
            all(counts[label] == 1 for label in named if label[0] == column.output)
            for named in (labels_of(table, row) for row in range(len(table)))
        ]
        if 2 * sum(alone) > len(table):
            raise InputError(
                f"{table.source}: column {column.column!r} has {len(labels):,} labels, and most rows have one that no "
                f"other row has, so there is nothing to learn from; name the column of the labels."
            )


def lone_labels(outputs: Sequence[OutputConfig], table: Table) -> list[str]:
    """A sentence for each output with labels that a single row is to teach."""
    counts = rows_of_labels(table)
    alone = {output.name: [name for name in output.labels if counts[output.name, name] == 1] for output in outputs}
    return [
        f"Labels of output {output!r} on one training row alone, which is too few to learn from: {shown(labels)}."
        for output, labels in alone.items()
        if labels
    ]
