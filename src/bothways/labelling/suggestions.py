"""Rows that a person should look at, and how they are written."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from bothways.errors import InputError
from bothways.files.writing import writing
from bothways.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A row, and the label that it should perhaps have."""

    index: int
    """Which row of the table."""
    output: str = ""
    """The output layer that it is about; empty if it is about all."""
    given: str | None = None
    """The label it has, as a cell has it; None if it has none."""
    suggested: str = ""
    """The label that the model would give; empty if there is no model."""
    score: float
    """For a label in doubt, how likely it is right; for a row to label, how uncertain the model is."""


def as_rows(table: Table, suggestions: Sequence[Suggestion]) -> list[dict[str, Any]]:
    """Suggestions as the rows of a table: line, text (text_pair), output if there are several, given_label if there is
    one, suggested_label, score."""
    several = len({each.output for each in suggestions}) > 1
    rows = []
    for each in suggestions:
        row: dict[str, Any] = {"line": int(table.rows[each.index].split()[-1])}
        for name, texts in (("text", table.texts), ("text_pair", table.pairs)):
            if texts is not None:
                text = texts[each.index]
                row[name] = text if isinstance(text, str) else " ".join(text)
        row |= {"output": each.output} if several else {}
        row |= {} if each.given is None else {"given_label": each.given}
        rows.append(row | {"suggested_label": each.suggested, "score": each.score})
    return rows


def write_csv(rows: Sequence[Mapping[str, Any]], stream: IO[str]) -> None:
    """A header and a line for each row."""
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json_lines(rows: Sequence[Mapping[str, Any]], stream: IO[str]) -> None:
    """A JSON object for each row."""
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


WRITERS = {".csv": write_csv, ".jsonl": write_json_lines}


def require_writer(path: str | os.PathLike | None) -> None:
    """Raise InputError if the name tells no format that can be written; long work asks this first."""
    if path is not None and os.path.splitext(path)[1].lower() not in WRITERS:
        raise InputError(f"{path}: the name tells no format; end it in {' or '.join(WRITERS)}.")


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as the name of the file says, whole or not at all."""
    require_writer(path)
    with writing(path) as stream:
        WRITERS[os.path.splitext(path)[1].lower()](rows, stream)


def screenful(rows: Sequence[Mapping[str, Any]], most: int = 10) -> Iterator[list[str]]:
    """The first rows with what is too long for a screen cut short."""
    for row in rows[:most]:
        yield [short(value) for value in row.values()]


def short(value: Any, longest: int = 60) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
