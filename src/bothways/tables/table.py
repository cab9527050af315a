"""Labelled tables: CSV, TSV, JSON lines or Parquet in; texts and targets out, every row knowing its line."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bothways.batch import UNLABELLED
from bothways.errors import InputError
from bothways.model.config import OutputConfig
from bothways.tables.rows import as_text, cell, read_rows
from bothways.tokenizer import Text

LabelKind = Literal["single", "multi", "regression", "tags"]
LABEL_SEPARATOR = "|"
"""Between the labels of a `multi` cell; JSON lines and Parquet may hold a list instead."""

LARGEST = 1e30
"""What a regression may be asked for; single precision ends at 3.4e38, its squares at 1.8e19."""


# ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """A column that holds the targets of an output layer."""

    output: str
    """Name of the output layer."""
    column: str
    """The column of the table."""
    kind: LabelKind = "single"
    """What the output layer decides."""

    @classmethod
    def parse(cls, text: str) -> LabelColumn:
        """`NAME=COLUMN:KIND`, as on the command line; `COLUMN:KIND` and `COLUMN` are short for the obvious."""
        match = re.fullmatch(r"(?:(?P<name>[^=]+)=)?(?P<column>[^:]+)(?::(?P<kind>\w+))?", text)
        kind = (match and match["kind"]) or "single"
        if match is None or kind not in ("single", "multi", "regression", "tags"):
            raise InputError(
                f"--output {text!r} is not understood; write NAME=COLUMN:KIND, "
                f"with KIND single, multi, regression or tags."
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

    def __post_init__(self) -> None:
        names = [label.output for label in self.labels]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"Two outputs are called {sorted(twice)[0]!r}; give each its own name (NAME=COLUMN:KIND).")

    @property
    def pretokenized(self) -> bool:
        """Whether texts come as words, because tags are given for each."""
        return any(label.kind == "tags" for label in self.labels)


@dataclass(frozen=True)
class Table:
    """Texts with their targets as found in a file, not yet turned into numbers."""

    source: str
    """The file, for messages."""
    columns: Columns
    rows: list[str] = field(default_factory=list)
    """Where each row stands in the file."""
    texts: list[Text] = field(default_factory=list)
    pairs: list[Text] | None = None
    targets: dict[str, list[Any]] = field(default_factory=dict)
    """By output: str (single), list of str (multi, tags), float (regression), or None where a row says nothing."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Table:
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        return Table(
            self.source,
            self.columns,
            [self.rows[i] for i in chosen],
            [self.texts[i] for i in chosen],
            None if self.pairs is None else [self.pairs[i] for i in chosen],
            {name: [values[i] for i in chosen] for name, values in self.targets.items()},
        )


def read_table(path: str | os.PathLike, columns: Columns, *, find_pair: bool = False) -> Table:
    """Read a whole table. `find_pair`: a column of the default name `text_pair` makes it a table of pairs.

    Raises InputError for a missing column, a null text or an unusable target.
    """
    table = None
    for where, cells in read_rows(path):
        if table is None:
            if find_pair and columns.text_pair is None and columns.text == "text" and "text_pair" in cells:
                columns = Columns(text="text", text_pair="text_pair", labels=columns.labels)
            table = Table(os.fspath(path), columns, pairs=None if columns.text_pair is None else [])
            table.targets.update({label.output: [] for label in columns.labels})
        append_row(table, where, cells)
    if table is None:
        raise InputError(f"{path}: the table has no rows.")
    return table


def append_row(table: Table, where: str, cells: Mapping[str, Any]) -> None:
    """Add one row to a table, checked."""
    columns, place = table.columns, f"{table.source}, {where}"
    text = text_cell(cells, columns.text, columns.pretokenized, place)
    for label in columns.labels:
        target = target_cell(cells, label, place, optional=len(columns.labels) > 1)
        if label.kind == "tags" and target is not None and len(target) != len(text):
            raise InputError(
                f"{place}: {len(text)} tokens but {len(target)} tags in column {label.column!r}; "
                f"give one tag for each token."
            )
        table.targets[label.output].append(target)
    table.rows.append(where)
    table.texts.append(text)
    if table.pairs is not None:
        table.pairs.append(text_cell(cells, columns.text_pair or "", columns.pretokenized, place))


def text_cell(cells: Mapping[str, Any], column: str, cut: bool, place: str) -> Text:
    """A text; an empty one is allowed, a missing one is not."""
    value = cell(cells, column, place)
    if value is None:
        raise InputError(f"{place}: column {column!r} is null; give a text (it may be empty) or remove the row.")
    if isinstance(value, list):
        words = [as_text(word, column, place) for word in value]
        return words if cut else " ".join(words)
    return as_text(value, column, place).split() if cut else as_text(value, column, place)


def target_cell(cells: Mapping[str, Any], label: LabelColumn, place: str, *, optional: bool) -> Any:
    """What a row says for one output; None, if allowed, where it says nothing."""
    value = cell(cells, label.column, place)
    if value is None or (value == "" and label.kind != "multi" and (label.kind != "tags" or optional)):
        return absent(label, place, optional)
    if label.kind == "multi":
        names = value if isinstance(value, list) else as_text(value, label.column, place).split(LABEL_SEPARATOR)
        names = [as_text(name, label.column, place).strip() for name in names]
        return [name for name in names if name]
    if label.kind == "tags":
        tags = value if isinstance(value, list) else as_text(value, label.column, place).split()
        return [as_text(tag, label.column, place) for tag in tags]
    if label.kind == "single":
        return as_text(value, label.column, place)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        raise InputError(f"{place}: {value!r} in column {label.column!r} is not a number.")
    return number


def absent(label: LabelColumn, place: str, optional: bool) -> None:
    """With several outputs a row need not say something for each; with one it must."""
    if not optional:
        raise InputError(f"{place}: column {label.column!r} is empty; give a label or remove the row.")


# ── Labels as numbers ────────────────────────────────────────────────────────────────────────────────────────────────


def learn_outputs(table: Table) -> tuple[OutputConfig, ...]:
    """The output layers that a training table asks for, their labels taken from it and from nowhere else.

    Raises InputError if an output has fewer than two classes.
    """
    return tuple(learn_output(table, label) for label in table.columns.labels)


def learn_output(table: Table, label: LabelColumn) -> OutputConfig:
    reads: Literal["tokens", "first"] = "tokens" if label.kind == "tags" else "first"
    if label.kind == "regression":
        if all(value is None for value in table.targets[label.output]):
            raise InputError(f"{table.source}: column {label.column!r} holds no number.")
        return OutputConfig(name=label.output, kind="regression", column=label.column)
    values = [value for value in table.targets[label.output] if value is not None]
    names = set(values) if label.kind == "single" else {name for value in values for name in value}
    least = 1 if label.kind == "multi" else 2
    if len(names) < least:
        only = f"the one class {next(iter(names))!r}" if names else "no label"
        raise InputError(
            f"{table.source}: column {label.column!r} holds only {only}; there is nothing to tell apart, "
            f"add rows of another class."
        )
    return OutputConfig(
        name=label.output, kind=label.kind, labels=tuple(in_order(names)), reads=reads, column=label.column
    )


def in_order(names: Iterable[str]) -> list[str]:
    """Labels in the order people expect: numbers by value, everything else by alphabet."""
    names = list(names)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def targets_of(table: Table, output: OutputConfig) -> list[Any]:
    """The targets of one output as numbers, one entry a row.

    single: int; multi: (labels,) float32 array; regression: float; tags: (words,) int64 array.
    `UNLABELLED` or NaN where a row says nothing. Raises InputError for a label that training did not see.
    """
    ids = {label: index for index, label in enumerate(output.labels)}

    def number(name: str, where: str) -> int:
        if name not in ids:
            raise InputError(
                f"{table.source}, {where}: the label {name!r} of output {output.name!r} does not occur in the training "
                f"table; correct it or train with it."
            )
        return ids[name]

    numbers: list[Any] = []
    for where, value in zip(table.rows, table.targets[output.name], strict=True):
        if output.kind == "regression":
            numbers.append(math.nan if value is None else value)
        elif output.kind == "multi":
            present = np.full(len(ids), math.nan if value is None else 0.0, np.float32)
            present[[number(name, where) for name in value or ()]] = 1.0
            numbers.append(present)
        elif output.kind == "tags":
            numbers.append(None if value is None else np.array([number(name, where) for name in value], np.int64))
        else:
            numbers.append(UNLABELLED if value is None else number(value, where))
    return numbers


def split_off(table: Table, share: float, at_most: int, seed: int) -> tuple[Table, Table]:
    """A table cut in two at random: (what remains, `share` of the rows but `at_most`), the same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(table))
    count = min(at_most, round(len(table) * share))
    return table.take(np.sort(order[count:])), table.take(np.sort(order[:count]))


def columns_of(text_columns: Sequence[str], outputs: Sequence[OutputConfig]) -> Columns:
    """The columns that a trained model reads, for evaluating it on another table of the same form."""
    return Columns(
        text=text_columns[0],
        text_pair=text_columns[1] if len(text_columns) > 1 else None,
        labels=tuple(LabelColumn(output=o.name, column=o.column or o.name, kind=o.kind) for o in outputs),  # type: ignore[arg-type]
    )
