"""Labelled tables: CSV, TSV, JSON lines or Parquet in; texts and targets out, every row knowing its line."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bothways.errors import InputError
from bothways.model.config import UNLABELLED, OutputConfig
from bothways.storage import Meter, open_input, read_lines
from bothways.tokenizer import Text, well_formed

LabelKind = Literal["single", "multi", "regression", "tags"]
LONGEST_ROW = 1 << 27
"""Bytes of a row of JSON lines; reading one takes several times as much memory."""
PARQUET_ROWS = 64
"""Rows that are in memory at a time."""
LABEL_SEPARATOR = "|"
"""Between the labels of a `multi` cell; JSON lines and Parquet may hold a list instead."""

LARGEST = 1e30
"""What a regression may be asked for; single precision ends at 3.4e38, its squares at 1.8e19."""

Row = tuple[str, dict[str, Any]]
"""Where a row stands (`line 7`) and its cells by column."""


# ── Reading rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def read_rows(path: str | os.PathLike, *, meter: Meter | None = None) -> Iterator[Row]:
    """The rows of a table, one after the other; the format is told by the name.

    Raises InputError, with file and line, for anything that cannot be read.
    """
    name = re.sub(r"\.(gz|bz2|xz|zst|zip)$", "", os.fspath(path))
    for endings, reader in READERS.items():
        if name.endswith(endings):
            return reader(path, meter)
    raise InputError(f"{path}: the name tells no format; use .csv, .tsv, .jsonl or .parquet, also with .gz, .xz, .zst.")


def read_csv(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader((text + "\n" for _, text in read_lines(path, meter=meter)), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            where, line = f"line {line}", reader.line_num + 1
            if header is None:
                header = named(cells, path)
            elif len(cells) == len(header):
                yield where, dict(zip(header, cells, strict=True))
            elif cells:
                raise InputError(
                    f"{path}, {where}: {len(cells)} cells where the header has {len(header)}; "
                    f"quote cells that hold a separator."
                )
    except csv.Error as error:
        raise InputError(f"{path}, line {line}: {error}; check the quotes of this row.") from None
    if header is None:
        raise InputError(f"{path}: the file is empty; the first line must name the columns.")


def named(cells: list[str], path: str | os.PathLike) -> list[str] | None:
    """The cells of a header; None for a blank line before it. InputError if two columns have the same name."""
    if twice := {name for name in cells if cells.count(name) > 1}:
        raise InputError(f"{path}, line 1: two columns are called {sorted(twice)[0]!r}; give each its own name.")
    return cells or None


def read_tsv(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[Row]:
    """A line a row, a tab between cells. Most such files know no quoting, so a lone quotation mark is one; a cell that
    begins and ends with one is taken for quoted."""
    header: list[str] | None = None
    for number, line in read_lines(path, meter=meter):
        if not line.strip():
            continue
        cells = [unquoted(text) for text in line.split("\t")]
        if header is None:
            header = named(cells, path)
        elif len(cells) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells where the header has {len(header)}; "
                f"put one tab between cells, and no line break into one."
            )
        else:
            yield f"line {number}", dict(zip(header, cells, strict=True))
    if header is None:
        raise InputError(f"{path}: the file is empty; the first line must name the columns.")


def unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def read_json_lines(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[Row]:
    lines = read_lines(path, longest=LONGEST_ROW, meter=meter)
    for number, text in lines:
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, and lists in lists in lists
            too_long = next(lines, (0, ""))[0] == number
            why = f"a row of more than {LONGEST_ROW / 1e6:.0f} MB is not read whole" if too_long else str(error)
            raise InputError(f"{path}, line {number}: this is not JSON ({why}); write one object a line.") from None
        if "\\ud" in text.lower():  # half a surrogate pair can be written in JSON and nowhere else
            cells = json.loads(well_formed(json.dumps(cells, ensure_ascii=False)))
        if not isinstance(cells, dict):
            raise InputError(f"{path}, line {number}: this is no JSON object; write one object a line.")
        yield f"line {number}", cells


def read_parquet(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    with open_input(path, meter) as stream:
        try:
            number = 0
            for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=PARQUET_ROWS):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"row {number}", cells
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path}: this cannot be read as Parquet ({error}).") from None


READERS = {
    (".csv",): read_csv,
    (".tsv", ".tab"): read_tsv,
    (".jsonl", ".ndjson", ".json"): read_json_lines,
    (".parquet", ".pq"): read_parquet,
}


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
    def words_are_cut(self) -> bool:
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
    text = text_cell(cells, columns.text, columns.words_are_cut, place)
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
        table.pairs.append(text_cell(cells, columns.text_pair or "", columns.words_are_cut, place))


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


def cell(cells: Mapping[str, Any], column: str, place: str) -> Any:
    """The value of one column; InputError if the table has no such column."""
    if column not in cells:
        raise InputError(
            f"{place}: there is no column {column!r}, only {', '.join(map(repr, cells))}; "
            f"rename it, or name the right one when training (--text, --text-pair, --label or --output)."
        )
    value = cells[column]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_text(value: Any, column: str, place: str) -> str:
    """A cell as text: strings as they are, numbers and truth values as they are written, bytes as UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{place}: column {column!r} holds bytes that are not UTF-8; store text.") from None
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise InputError(f"{place}: column {column!r} holds {kind}; give a text or a number.")
    return str(value)


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
