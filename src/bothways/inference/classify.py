"""Classifying a table or standard input, some thousand texts at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from bothways.errors import InputError

if TYPE_CHECKING:
    from bothways.inference.engine import Engine


def windows(engine: Engine, file: str) -> Iterator[tuple[list[Any], list[Any] | None]]:
    """The texts (and second texts) of a table or of standard input, some thousand at a time."""
    from bothways.tables.rows import read_rows
    from bothways.tables.table import Columns, text_cell

    names = engine.bert.config.text_columns
    columns = Columns(text=names[0], text_pair=names[1] if len(names) > 1 else None)
    if file == "-":
        if columns.text_pair is not None:
            raise InputError("This model reads pairs of texts; give a table with both columns.")
        rows: Iterator[Any] = ((f"line {i}", {columns.text: line}) for i, line in enumerate(stdin_lines(), start=1))
        file = "standard input"
    else:
        rows = read_rows(file)
    while window := list(islice(rows, 1 if sys.stdin.isatty() and file == "standard input" else engine.window)):
        texts = [text_cell(c, columns.text, engine.pretokenized, f"{file}, {where}") for where, c in window]
        pairs = columns.text_pair and [
            text_cell(c, columns.text_pair, engine.pretokenized, f"{file}, {where}") for where, c in window
        ]
        yield texts, pairs or None


def stdin_lines() -> Iterator[str]:
    """The lines of standard input, as UTF-8 whatever the terminal believes."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input, line {number}: byte {error.start + 1} is not UTF-8.") from None
