"""The rows to classify, a window at a time: from a table, or a text a line from standard input."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from bothways.errors import InputError
from bothways.files.reading import STANDARD_INPUT, Meter, read_standard_input
from bothways.tables.rows import ReadRow, cell, read_each_row
from bothways.tables.table import Columns, text_cell
from bothways.tokenizer import Text

FIRST_ROWS = 1000
"""So many rows are looked at for the columns of a table."""
WINDOW_CHARACTERS = 1 << 22
"""A window ends after so many, however few its rows are."""


@dataclass(frozen=True, kw_only=True)
class GivenRow:
    """A row as it was given."""

    number: int
    """From 1, without a header."""
    cells: Mapping[str, Any] = field(default_factory=dict)
    """Empty if it could not be read."""
    texts: tuple[str, ...] = ()
    """Its text, or both of a pair."""
    error: str | None = None
    """Why it cannot be classified."""

    def kept(self, columns: Sequence[str]) -> dict[str, Any]:
        """Its cells of these columns; None where it has none."""
        return {column: self.cells.get(column) for column in columns}


@dataclass(kw_only=True)
class Window:
    """Rows that follow each other; of those without an error, what the model reads."""

    rows: list[GivenRow] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    """As words, if the model reads words."""
    pairs: list[Text] = field(default_factory=list)
    """The second texts, if it reads two."""
    read: int = 0
    """Rows of the input up to the last of these."""
    digest: int = 0
    """Of all of them."""


class GivenRows:
    """The rows of an input, read once."""

    def __init__(self, rows: Iterator[ReadRow], source: str, columns: Columns, *, pretokenized: bool) -> None:
        """`source`: the name of the input, for messages. `pretokenized`: whether the model reads texts as words."""
        self._rows, self._source, self._columns, self._pretokenized = rows, source, columns, pretokenized
        self._window = Window()
        self._characters = 0

    def columns(self) -> list[str]:
        """The columns that the first rows have."""
        first = list(islice(self._rows, FIRST_ROWS))
        self._rows = chain(first, self._rows)
        return list(dict.fromkeys(name for _, cells in first if isinstance(cells, dict) for name in cells))

    def skip(self, rows: int, digest: int) -> None:
        """Pass over rows that an earlier run has classified.

        Raises InputError if they are not the same as they were.
        """
        for where, cells in islice(self._rows, rows):
            self._count(where, cells)
        if (self._window.read, self._window.digest) != (rows, digest):
            raise InputError(
                f"{self._source}: its first {rows:,} rows are not those that were classified before; leave out "
                f"--resume to begin anew."
            )

    def windows(self, size: int) -> Iterator[Window]:
        """All that is left, in windows of `size` rows, or of fewer long ones.

        Raises InputError for an input whose first row cannot be read or lacks a column: then it is not what it is
        taken for. Any later row that cannot be used has an error.
        """
        for where, cells in self._rows:
            self._count(where, cells)
            self._add(where, cells)
            if len(self._window.rows) == size or self._characters >= WINDOW_CHARACTERS:
                yield self._next()
        if self._window.rows:
            yield self._next()

    def _next(self) -> Window:
        done, self._characters = self._window, 0
        self._window = Window(read=done.read, digest=done.digest)
        return done

    def _count(self, where: str, cells: dict[str, Any] | InputError) -> None:
        window = self._window
        window.read += 1
        window.digest = zlib.crc32(repr((where, str(cells))).encode("utf-8", "surrogatepass"), window.digest)

    def _add(self, where: str, cells: dict[str, Any] | InputError) -> None:
        window, place = self._window, f"{self._source}, {where}"
        first = window.read == 1
        if isinstance(cells, InputError):
            if first:
                raise cells
            window.rows.append(GivenRow(number=window.read, error=str(cells)))
            return
        names = [column for column in (self._columns.text, self._columns.text_pair) if column is not None]
        for column in names if first else ():
            cell(cells, column, place)
        try:
            given = tuple(str(text_cell(cells, column, False, place)) for column in names)
            read = [text_cell(cells, column, self._pretokenized, place) for column in names]
        except InputError as error:
            window.rows.append(GivenRow(number=window.read, cells=cells, error=str(error)))
            return
        window.rows.append(GivenRow(number=window.read, cells=cells, texts=given))
        window.texts.append(read[0])
        window.pairs += read[1:]
        self._characters += sum(map(len, given))


def given_rows(file: str, columns: Columns, *, pretokenized: bool, meter: Meter | None = None) -> GivenRows:
    """The rows of a table, or of standard input (`-`)."""
    if file != STANDARD_INPUT:
        return GivenRows(read_each_row(file, meter=meter), file, columns, pretokenized=pretokenized)
    if columns.text_pair is not None:
        raise InputError("This model reads pairs of texts; give a table with both columns.")
    lines: Iterator[ReadRow] = ((f"line {number}", {columns.text: line}) for number, line in stdin_lines())
    return GivenRows(lines, "standard input", columns, pretokenized=pretokenized)


def stdin_lines() -> Iterator[tuple[int, str]]:
    """The lines of standard input with their numbers, as UTF-8 whatever the terminal believes."""
    if sys.stdin is None:
        raise InputError("standard input is closed; name a table, or give texts there, one a line.")
    return read_standard_input(sys.stdin.buffer, "standard input")


def is_interactive() -> bool:
    """Whether a person types at standard input."""
    return sys.stdin is not None and sys.stdin.isatty()
