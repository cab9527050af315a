"""Rows of a table, one after the other: CSV, TSV, JSON lines or Parquet, each row knowing its line."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bothways.errors import InputError
from bothways.files.reading import Meter, open_input, read_lines
from bothways.tokenizer import well_formed

LONGEST_ROW = 1 << 27
"""Bytes of a row of JSON lines; reading one takes several times as much memory."""
PARQUET_ROWS = 64
"""Rows that are in memory at a time."""

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


def cell(cells: Mapping[str, Any], column: str, place: str) -> Any:
    """The value of one column; InputError if the table has no such column."""
    if column not in cells:
        raise InputError(
            f"{place}: there is no column {column!r}, only {', '.join(map(repr, cells))}; "
            f"rename it, or name the right one when training (--text, --text-pair, --label or --output)."
        )
    value = cells[column]
    return None if isinstance(value, float) and math.isnan(value) else value
