"""Rows of a table, one after the other: CSV, TSV, JSON lines or Parquet, each row knowing its line."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from bothways.errors import InputError
from bothways.files.names import public_name
from bothways.files.reading import COMPRESSED_NAME, Meter, open_input, read_lines
from bothways.files.signs import BEGINNING, compression, not_text
from bothways.tokenizer import well_formed

LONGEST_ROW = 1 << 27
"""Bytes of a row of JSON lines; reading one takes several times as much memory."""
PARQUET_ROWS = 64
"""Rows that are in memory at a time."""

Row = tuple[str, dict[str, Any]]
"""Where a row stands (`line 7`) and its cells by column."""
ReadRow = tuple[str, dict[str, Any] | InputError]
"""The same, or what is wrong with the row; those after it can be read all the same."""


# ── Reading rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def read_rows(path: str | os.PathLike, *, meter: Meter | None = None) -> Iterator[Row]:
    """The rows of a table, one after the other; the format is told by the name.

    Raises InputError, with file and line, for anything that cannot be read.
    """
    for where, cells in read_each_row(path, meter=meter):
        if isinstance(cells, InputError):
            raise cells
        yield where, cells


def read_each_row(path: str | os.PathLike, *, meter: Meter | None = None) -> Iterator[ReadRow]:
    """The same, going on after a row that cannot be read, which comes as what is wrong with it.

    Raises InputError for what is wrong with the file, such as damaged compression or text that is not UTF-8.
    """
    reader = reader_of(path)
    if reader is None:
        raise InputError(
            f"{path}: the name tells no format; use .csv, .tsv, .jsonl or .parquet, also with .gz, .xz, .zst."
        )
    return reader(path, meter)


def reader_of(path: str | os.PathLike) -> Reader | None:
    """What reads a table of this name; None for the name of no table, as of plain text.

    Of an address the path tells it (`https://host/a.csv?key=…`) or, failing that, the end (`https://host/get?file=a.csv`).
    """
    names = [COMPRESSED_NAME.sub("", name).lower() for name in (public_name(path), os.fspath(path))]
    return next((reader for name in names for endings, reader in READERS.items() if name.endswith(endings)), None)


def read_csv(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[ReadRow]:
    """The rows of a CSV file. The separator is a comma unless a first line `sep=;` names another, as Excel has it, or
    the header has no comma but semicolons, tabs or bars."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines: Iterator[str] = (text + "\n" for _, text in read_lines(path, meter=meter))
    blank, first = 0, next(lines, "")
    while first.isspace():
        blank, first = blank + 1, next(lines, "")
    if named := re.fullmatch(r"sep=(.)\n", first, re.IGNORECASE):
        separator, skipped = named[1], blank + 1
    else:
        separator, skipped = next((sign for sign in ",;\t|" if sign in first), ","), blank
        lines = chain([first], lines) if first else lines
    yield from under_header(csv_cells(csv.reader(lines, strict=True, delimiter=separator), path, skipped), path)


def csv_cells(reader: Any, path: str | os.PathLike, skipped: int) -> Iterator[tuple[int, list[str] | InputError]]:
    """The cells of each row of a `csv.reader` with the line on which it begins, `skipped` lines before the first."""
    line = skipped + 1
    while True:
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line, unless an open quote has taken all of them
            wrong = InputError(f"{path}, line {line}: {error}; check the quotes of this row.")
            if "unexpected end of data" in str(error):
                raise wrong from None
            yield line, wrong
        line = skipped + reader.line_num + 1


def read_tsv(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[ReadRow]:
    """A line a row, a tab between cells. Most such files know no quoting, so a lone quotation mark is one; a cell that
    begins and ends with one is taken for quoted."""
    return under_header(tsv_cells(path, meter), path)


def tsv_cells(path: str | os.PathLike, meter: Meter | None) -> Iterator[tuple[int, list[str] | InputError]]:
    """The cells of each line that is not blank."""
    separated = False
    for number, line in read_lines(path, meter=meter):
        if not separated and re.fullmatch(r"[^\s,]+(,[^\s,]+)+,*", line):
            raise InputError(
                f"{path}, line {number}: there are commas between the cells, not tabs; name the file .csv."
            )
        if line.strip():
            separated = True
            yield number, [unquoted(text) for text in line.split("\t")]


def unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def under_header(lines: Iterable[tuple[int, list[str] | InputError]], path: str | os.PathLike) -> Iterator[ReadRow]:
    """The rows under the first that is not blank, which names the columns. Blank rows, and blank cells after the last
    column, are what spreadsheets leave; they are left out. A row of another length is wrong, and so is a header that
    comes again.

    Raises InputError for names that are unclear.
    """
    header: list[str] = []
    for line, cells in lines:
        if isinstance(cells, InputError):
            if not header:
                raise cells
            yield f"line {line}", cells
            continue
        blank = not any(map(str.strip, cells))
        if not header:
            header = [] if blank else header_of(cells, line, path)
            continue
        if blank and (len(header) > 1 or len(cells) != 1):  # an empty text in a column of its own is a row
            continue
        if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
            yield (
                f"line {line}",
                InputError(
                    f"{path}, line {line}: {len(cells)} cells where the header has {len(header)}; "
                    f"quote cells of a CSV file that hold a separator, and put no line break into those of a TSV file."
                ),
            )
            continue
        del cells[len(header) :]
        if cells == header:
            yield (
                f"line {line}",
                InputError(
                    f"{path}, line {line}: this is the header again; remove the line, or name the columns otherwise "
                    f"if it is a row."
                ),
            )
            continue
        yield f"line {line}", dict(zip(header, cells, strict=True))
    if not header:
        raise InputError(f"{path}: the file is empty; the first line must name the columns.")


def header_of(cells: list[str], line: int, path: str | os.PathLike) -> list[str]:
    """The names of the columns, without nameless ones at the end. InputError if two are the same, or if full-width
    commas (U+FF0C) stand between them."""
    while not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) == 1 and re.fullmatch(r"[^\s，]+(，[^\s，]+)+", cells[0]):
        raise InputError(
            f"{path}, line {line}: there are full-width commas (，) between the names of the columns; a CSV file needs "
            f"commas (,) there and between cells, a TSV file tabs."
        )
    require_unique(cells, f"{path}, line {line}")
    return cells


def require_unique(names: Sequence[str], place: str) -> None:
    """InputError if two columns of a table have the same name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{place}: two columns are called {twice[0]!r}; give each its own name.")


def read_json_lines(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[ReadRow]:
    """The rows of a file of one JSON object a line."""
    lines = read_lines(path, longest=LONGEST_ROW, meter=meter)
    for number, of_line in groupby(lines, key=itemgetter(0)):  # a line that is too long comes in several pieces
        pieces = iter(of_line)
        _, text = next(pieces)
        if not text.strip():
            continue
        place = f"{path}, line {number}"
        try:
            yield f"line {number}", json_object(text, place)
        except InputError as error:
            yield f"line {number}", error
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, and lists in lists in lists
            too_long = next(pieces, None) is not None
            why = f"a row of more than {LONGEST_ROW / 1e6:.0f} MB is not read whole" if too_long else str(error)
            yield f"line {number}", InputError(f"{place}: this is not JSON ({why}); write one object a line.")


def json_object(text: str, place: str) -> dict[str, Any]:
    """The object that a line of JSON holds. ValueError if it is no JSON, InputError if it is no object or unclear."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        cells = dict(pairs)
        if len(cells) < len(pairs):
            require_unique([name for name, _ in pairs], place)
        return cells

    cells = json.loads(text, object_pairs_hook=unique)
    if "\\ud" in text.lower():  # half a surrogate pair can be written in JSON and nowhere else
        cells = json.loads(well_formed(json.dumps(cells, ensure_ascii=False)))
    if not isinstance(cells, dict):
        raise InputError(f"{place}: this is no JSON object; write one object a line.")
    return cells


def read_parquet(path: str | os.PathLike, meter: Meter | None = None) -> Iterator[ReadRow]:
    """The rows of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    with open_input(path, meter) as stream:
        if not stream.seekable():
            raise InputError(f"{path}: Parquet cannot be read from a pipe or a zst file; give a file of it as it is.")
        try:
            number = 0
            file = pyarrow.parquet.ParquetFile(stream)
            require_unique(file.schema_arrow.names, os.fspath(path))
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"row {number}", cells
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path}: {no_parquet(path)} ({error}).") from None


def no_parquet(path: str | os.PathLike) -> str:
    """What a file is that cannot be read as Parquet, and what to do."""
    with open_input(path, raw=True) as stream:
        beginning = stream.read(BEGINNING)
    if beginning.startswith(b"PAR1"):
        return "this Parquet file is damaged or of a kind that cannot be read; write it again"
    if packed := compression(beginning):
        return f"this is no Parquet, but something else in {packed}; name the file as what it is"
    if found := not_text(beginning):
        return f"this is no Parquet, but {found[0]}; {found[1]}"
    return "this is no Parquet, but perhaps text; name the file .csv, .tsv or .jsonl if it is"


Reader = Callable[[str | os.PathLike, Meter | None], Iterator[ReadRow]]
READERS: dict[tuple[str, ...], Reader] = {
    (".csv",): read_csv,
    (".tsv", ".tab"): read_tsv,
    (".jsonl", ".ndjson", ".json"): read_json_lines,
    (".parquet", ".pq"): read_parquet,
}


def cell(cells: Mapping[str, Any], column: str, place: str) -> Any:
    """The value of one column; InputError if the table has no such column."""
    if column not in cells:
        raise InputError(
            f"{place}: there is no column {column!r}, only {', '.join(map(repr, cells))}; "
            f"rename it, or name the right one when training (--text, --text-pair, --label or --output)."
        )
    value = cells[column]
    return None if isinstance(value, float) and math.isnan(value) else value
