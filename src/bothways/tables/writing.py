"""Tables written part by part, each part bytes that can be put after the one before: JSON lines, CSV, TSV, Parquet."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow

from bothways.errors import InputError
from bothways.files.names import public_name
from bothways.files.reading import COMPRESSED_NAME

Record = Mapping[str, Any]
ColumnType = type | None
"""str, float, int or bool; None: what the cells are."""
ROWS_IN_A_GROUP = 65_536
"""Rows of a row group of Parquet: what a reader has in memory at a time."""

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda part: gzip.compress(part, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda part: pyarrow.Codec("zstd").compress(part, asbytes=True),
}
"""By ending: a part as a stream of its own; streams that follow each other are read as one."""


class Format(Protocol):
    """How rows are written."""

    has_columns: bool
    """Whether every row has the same columns, each with a cell; else a row is an object of any form."""

    def part(self, records: Sequence[Record], *, first: bool) -> bytes:
        """Some rows. `first`: nothing is before them."""

    def finish(self, parts: Path) -> Path:
        """The file that was asked for, out of one of parts, and beside it; it may be the same."""


class JsonLines:
    """An object a line."""

    has_columns = False

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        """`columns` may be empty: nothing depends on them."""

    def part(self, records: Sequence[Record], *, first: bool) -> bytes:
        """See `Format`."""
        return "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records).encode()

    def finish(self, parts: Path) -> Path:
        """See `Format`."""
        return parts


class Csv:
    """A comma between cells, quotes where they are needed, as RFC 4180 has it but for the line end."""

    has_columns = True

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self.columns = list(columns)

    def part(self, records: Sequence[Record], *, first: bool) -> bytes:
        """See `Format`."""
        rows = ([written(record.get(column)) for column in self.columns] for record in records)
        return self.lines([self.columns, *rows] if first else rows).encode()

    def lines(self, rows: Iterable[list[str]]) -> str:
        """Rows of cells as lines."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue()

    def finish(self, parts: Path) -> Path:
        """See `Format`."""
        return parts


class Tsv(Csv):
    """A tab between cells. What is read as such knows no tab or line end within a cell: each becomes a space."""

    def lines(self, rows: Iterable[list[str]]) -> str:
        """See `Csv`."""
        return "".join("\t".join(map(one_line, row)) + "\n" for row in rows)


class Parquet:
    """Parts are streams of Arrow's, which need no end; the table is made of them when all are there."""

    has_columns = True

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self.columns = columns

    def part(self, records: Sequence[Record], *, first: bool) -> bytes:
        """See `Format`."""
        arrays = {name: array([r.get(name) for r in records], kind) for name, kind in self.columns.items()}
        table, stream = pyarrow.table(arrays), io.BytesIO()
        with pyarrow.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return stream.getvalue()

    def finish(self, parts: Path) -> Path:
        """See `Format`."""
        import pyarrow.parquet

        schema = pyarrow.schema([])
        for table in tables_in(parts):
            schema = common_schema(schema, table.schema)
        goal, waiting = parts.with_name("table.parquet"), list[pyarrow.Table]()
        with pyarrow.parquet.ParquetWriter(goal, schema, compression="zstd") as writer:
            for table in tables_in(parts):
                waiting.append(pyarrow.table([as_type(table[f.name], f.type) for f in schema], schema=schema))
                if sum(map(len, waiting)) >= ROWS_IN_A_GROUP:
                    writer.write_table(pyarrow.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(pyarrow.concat_tables(waiting))
        return goal


class Compressed:
    """Another format, compressed."""

    def __init__(self, plain: Format, compress: Callable[[bytes], bytes]) -> None:
        self.has_columns, self._plain, self._compress = plain.has_columns, plain, compress

    def part(self, records: Sequence[Record], *, first: bool) -> bytes:
        """See `Format`."""
        return self._compress(self._plain.part(records, first=first))

    def finish(self, parts: Path) -> Path:
        """See `Format`."""
        return self._plain.finish(parts)


FORMATS: dict[tuple[str, ...], type[JsonLines] | type[Csv] | type[Parquet]] = {
    (".csv",): Csv,
    (".tsv", ".tab"): Tsv,
    (".parquet", ".pq"): Parquet,
}


def format_named(path: str | os.PathLike | None, columns: Mapping[str, ColumnType] | None = None) -> Format:
    """How a file of this name is written; JSON lines if the name tells nothing, and on standard output.

    Raises InputError for a compression that cannot be written.
    """
    name = "" if path is None else public_name(path).lower()
    packed = COMPRESSED_NAME.search(name)
    plain = name[: packed.start()] if packed else name
    kind = next((kind for endings, kind in FORMATS.items() if plain.endswith(endings)), JsonLines)
    written_plainly = kind(columns or {})
    if packed is None:
        return written_plainly
    if kind is Parquet:
        raise InputError(f"{path}: a Parquet file is compressed already; leave out {packed[0]}.")
    if packed[1] not in COMPRESSORS:
        raise InputError(f"{path}: no {packed[0]} is written here; use .{', .'.join(COMPRESSORS)}.")
    return Compressed(written_plainly, COMPRESSORS[packed[1]])


# ── Cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def written(cell: Any) -> str:
    """A cell as text: nothing for None, true and false as JSON has them, and so lists and objects."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    return json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, (bool, list, dict)) else str(cell)


def one_line(cell: str) -> str:
    """A cell of a TSV file; one that would be taken for quoted is."""
    plain = re.sub(r"[\t\r\n]", " ", cell)
    return '"' + plain.replace('"', '""') + '"' if len(plain) > 1 and plain[0] == plain[-1] == '"' else plain


def array(cells: list[Any], kind: ColumnType) -> pyarrow.Array:
    """A column of Parquet; cells that go together as no type become text."""
    types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    if kind is not None:
        return pyarrow.array(cells, types[kind])
    try:
        return pyarrow.array(cells)
    except (pyarrow.ArrowException, OverflowError):
        return as_text(cells)


def as_text(cells: Iterable[Any]) -> pyarrow.Array:
    return pyarrow.array([None if cell is None else written(cell) for cell in cells], pyarrow.string())


def as_type(column: pyarrow.ChunkedArray, kind: pyarrow.DataType) -> pyarrow.ChunkedArray:
    """A column as a type that its schema shares with other parts."""
    if column.type == kind:
        return column
    if pyarrow.types.is_string(kind):
        return pyarrow.chunked_array([as_text(column.to_pylist())])
    return column.cast(kind)


def common_schema(one: pyarrow.Schema, other: pyarrow.Schema) -> pyarrow.Schema:
    """A schema for the rows of both: of one type what numbers share, else text."""
    if not one.names:
        return other
    return pyarrow.schema([(a.name, common_type(a.type, b.type)) for a, b in zip(one, other, strict=True)])


def common_type(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType:
    """A type for the cells of both."""
    if one == other or pyarrow.types.is_null(other):
        return one
    if pyarrow.types.is_null(one):
        return other
    numbers = (pyarrow.int64(), pyarrow.float64())
    return pyarrow.float64() if one in numbers and other in numbers else pyarrow.string()


def tables_in(parts: Path) -> Iterator[pyarrow.Table]:
    """The tables of a file of Arrow streams, one after the other."""
    with parts.open("rb") as stream:
        while stream.peek(1):
            with pyarrow.ipc.open_stream(stream) as reader:
                yield reader.read_all()
