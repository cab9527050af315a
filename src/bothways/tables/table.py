"""Labelled tables: texts and what is said of each, every row knowing its line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bothways.errors import InputError
from bothways.model.config import OutputConfig, OutputKind
from bothways.tables.rows import cell, read_rows
from bothways.tasks import TASKS, Task
from bothways.tasks.cells import as_text
from bothways.tasks.tags import words_of
from bothways.tasks.task import Target, Value
from bothways.tokenizer import Text

FIRST_ROWS = 1000
"""Of so many rows the columns that are not used are kept."""

# ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """A column that holds the targets of an output layer."""

    output: str
    """Name of the output layer."""
    column: str
    """The column of the table."""
    kind: OutputKind = "single"
    """What the output layer decides."""

    @classmethod
    def parse(cls, text: str) -> LabelColumn:
        """`NAME=COLUMN:KIND`, as on the command line; `COLUMN:KIND` and `COLUMN` are short for the obvious."""
        match = re.fullmatch(r"(?:(?P<name>[^=]+)=)?(?P<column>[^:]+)(?::(?P<kind>\w+))?", text)
        kind = (match and match["kind"]) or "single"
        if match is None or kind not in TASKS:
            raise InputError(
                f"--output {text!r} is not understood; write NAME=COLUMN:KIND, with KIND one of {', '.join(TASKS)}."
            )
        return cls(output=match["name"] or match["column"], column=match["column"], kind=kind)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table mean what."""

    text: str = "text"
    """The text, or the first text of a pair; with a `tags` output: its tokens, separated by spaces."""
    text_pair: str | None = None
    """The second text of a pair."""
    labels: tuple[LabelColumn, ...] = (LabelColumn(output="label", column="label"),)
    """One for each output layer; empty: the table has no targets."""
    labels_optional: bool = False
    """Whether a row may be without a label and the table without the columns of `labels`, as before all is labelled."""

    def __post_init__(self) -> None:
        names = [label.output for label in self.labels]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"Two outputs are called {sorted(twice)[0]!r}; give each its own name (NAME=COLUMN:KIND).")

    @property
    def pretokenized(self) -> bool:
        """Whether texts come as words, because each has a label."""
        return any(TASKS[label.kind].pretokenized for label in self.labels)


@dataclass(frozen=True)
class Table:
    """Texts with their labels as found in a file, not yet turned into numbers."""

    source: str
    """The file, for messages."""
    columns: Columns
    rows: list[str] = field(default_factory=list)
    """Where each row stands in the file."""
    texts: list[Text] = field(default_factory=list)
    pairs: list[Text] | None = None
    values: dict[str, list[Value]] = field(default_factory=dict)
    """By output, what each row says: see `tasks.task.Value`; None where it says nothing."""
    unused: dict[str, list[Any]] = field(default_factory=dict)
    """By column that means nothing here, the cells of the first rows: enough to tell what was left out."""

    def __len__(self) -> int:
        return len(self.texts)

    def targets(self, task: Task) -> list[Target]:
        """The targets of one output, a row each. Raises InputError for a label that training did not see."""
        return task.targets(self.values[task.name], self.rows, self.source)

    def take(self, indices: Iterable[int]) -> Table:
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        return Table(
            self.source,
            self.columns,
            [self.rows[i] for i in chosen],
            [self.texts[i] for i in chosen],
            None if self.pairs is None else [self.pairs[i] for i in chosen],
            {name: [values[i] for i in chosen] for name, values in self.values.items()},
            self.unused,
        )


def read_table(path: str | os.PathLike, columns: Columns, *, find_pair: bool = False) -> Table:
    """Read a whole table. `find_pair`: a column of the default name `text_pair` makes it a table of pairs.

    Raises InputError for a missing column, a null text or an unusable label.
    """
    return next(read_tables(path, columns, find_pair=find_pair))


def read_tables(
    path: str | os.PathLike,
    columns: Columns,
    rows: int | None = None,
    *,
    find_pair: bool = False,
    find_labels: bool = False,
) -> Iterator[Table]:
    """Read a table in parts of so many rows, the last perhaps of fewer; None: whole. Else as `read_table`.
    `find_labels`: of several columns of labels those that its first row lacks are left out, unless it lacks all.
    """
    table = None
    for where, cells in read_rows(path):
        if table is None:
            if find_pair and columns.text_pair is None and columns.text == "text" and "text_pair" in cells:
                columns = replace(columns, text_pair="text_pair")
            if find_labels or columns.labels_optional:
                there = tuple(label for label in columns.labels if label.column in cells)
                columns = replace(columns, labels=there if columns.labels_optional else there or columns.labels)
            table = empty_table(path, columns)
        elif len(table) == rows:
            yield table
            table = empty_table(path, columns)
        if find_pair and table.pairs is None and columns.text == "text" and "text_pair" in cells:
            raise InputError(
                f"{path}, {table.rows[0]}: there is no 'text_pair', which {where} has; give every row a second "
                f"text, or none."
            )
        append_row(table, where, cells)
        if len(table) <= FIRST_ROWS:
            append_unused(table, cells)
    if table is None:
        raise InputError(f"{path}: the table has no rows.")
    yield table


def empty_table(path: str | os.PathLike, columns: Columns) -> Table:
    """A table without rows, to be appended to."""
    table = Table(os.fspath(path), columns, pairs=None if columns.text_pair is None else [])
    table.values.update({label.output: [] for label in columns.labels})
    return table


def append_row(table: Table, where: str, cells: Mapping[str, Any]) -> None:
    """Add one row to a table, checked."""
    columns, place = table.columns, f"{table.source}, {where}"
    tags = next((cells.get(label.column) for label in columns.labels if TASKS[label.kind].pretokenized), None)
    text = text_cell(cells, columns.text, columns.pretokenized, place, tags)
    for label in columns.labels:
        value = value_cell(cells, label, text, place, optional=columns.labels_optional or len(columns.labels) > 1)
        table.values[label.output].append(value)
    table.rows.append(where)
    table.texts.append(text)
    if table.pairs is not None:
        table.pairs.append(text_cell(cells, columns.text_pair or "", columns.pretokenized, place))


def append_unused(table: Table, cells: Mapping[str, Any]) -> None:
    """Keep the cells of a row that no column of the table asks for."""
    columns = table.columns
    used = {columns.text, columns.text_pair, *(label.column for label in columns.labels)}
    for column, found in cells.items():
        if column not in used:
            table.unused.setdefault(column, []).append(found)


def text_cell(cells: Mapping[str, Any], column: str, pretokenized: bool, place: str, tags: Any = None) -> Text:
    """A text, or the words of one (`tags`: the cell of their tags); an empty one is allowed, a missing one is not."""
    found = cell(cells, column, place)
    if found is None:
        raise InputError(f"{place}: column {column!r} is null; give a text (it may be empty) or remove the row.")
    if isinstance(found, list):
        words = [as_text(word, column, place) for word in found]
        return words if pretokenized else " ".join(words)
    text = as_text(found, column, place)
    return words_of(text, tags) if pretokenized else text


def value_cell(cells: Mapping[str, Any], label: LabelColumn, text: Text, place: str, *, optional: bool) -> Value:
    """What a row says for one output; None, if that is allowed, where it says nothing."""
    task, found = TASKS[label.kind], cell(cells, label.column, place)
    if not task.says_nothing(found, optional=optional):
        return task.value(found, text=text, column=label.column, place=place)
    if not optional:
        raise InputError(f"{place}: column {label.column!r} is empty; give a label or remove the row.")
    return None


# ── Outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def learn_outputs(table: Table) -> tuple[OutputConfig, ...]:
    """The output layers that a training table asks for, their labels taken from it and from nowhere else.

    Raises InputError if an output has nothing to learn.
    """
    return tuple(
        TASKS[label.kind].learn(label.output, label.column, table.values[label.output], table.source)
        for label in table.columns.labels
    )


def columns_of(text_columns: Sequence[str], outputs: Sequence[OutputConfig]) -> Columns:
    """The columns that a trained model reads, for evaluating it on another table of the same form."""
    return Columns(
        text=text_columns[0],
        text_pair=text_columns[1] if len(text_columns) > 1 else None,
        labels=tuple(LabelColumn(output=o.name, column=o.column or o.name, kind=o.kind) for o in outputs),
    )
