"""What a fine-tuning reads: the tables of a task, checked and split before anything is trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bothways.evaluation.data_checks import check_tables
from bothways.evaluation.findings import Finding, refuse_meaningless
from bothways.files.names import public_name, without_secrets
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.task_file import FinetuningTask, TaskTable
from bothways.model.config import OutputConfig
from bothways.tables.joining import join
from bothways.tables.splitting import split_off
from bothways.tables.table import Table, learn_outputs, read_table
from bothways.tasks import tasks_of


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
    findings: list[Finding]
    """What is to be known of these rows."""

    @property
    def evaluated(self) -> Table:
        """The rows of `dev` in one table."""
        return join(self.dev, self.evaluated_on) if self.dev else self.train.take([])


def read_data(task: FinetuningTask, config: FinetuningConfig) -> Data:
    """Read the tables of a task; rows to evaluate on are held out where none are named, the same for the same seed.

    Raises InputError for what the user has to correct in them, and for rows that would teach nothing.
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
    findings = [found for table, parts in zip(task.tables, split, strict=True) for found in check(table, *parts)]
    refuse_meaningless(findings)
    where = [described(table, rows) for table, (_, rows) in zip(task.tables, split, strict=True)]
    return Data(train, dev, outputs, " and ".join(where), findings)


def check(table: TaskTable, train: Table, dev: Table) -> list[Finding]:
    """What is to be known of the rows of one table; metrics.json and the report keep it."""
    name = public_name(table.train)
    other = f"{name} (held out)" if table.dev is None else f"{public_name(table.dev)} (dev)"
    return check_tables({name: train} | ({other: dev} if len(dev) else {}))


def split_one(table: TaskTable, rows: Table, config: FinetuningConfig) -> tuple[Table, Table]:
    """(training rows, rows to evaluate on) of one table."""
    if table.dev is not None:
        return rows, read_table(table.dev, rows.columns)
    kept, held_out = split_off(rows, config.held_out, seed=config.seed)
    if config.held_out and not len(held_out):
        print(
            f"{without_secrets(table.train)}: no row can be held out, since every label needs one to train on and "
            f"equal texts stay together.",
            file=sys.stderr,
        )
    return kept, held_out


def described(table: TaskTable, rows: Table) -> str:
    """Where rows to evaluate on are from, as the model card says it, too."""
    return f"{len(rows)} rows held out of {public_name(table.train)}" if table.dev is None else public_name(table.dev)
