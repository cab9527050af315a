"""What a cell of a table may hold."""

from __future__ import annotations

import math
import re
from typing import Any

from bothways.errors import InputError

SEPARATOR = "|"
"""Between the labels of a cell; JSON lines and Parquet may hold a list instead."""
WRITTEN_LIST = re.compile(
    r"""\s*(\[\s*(['"].*['"],?)?\s*\]|\(\s*['"].*['"],?\s*\)|\{\s*['"].*['"]\s*\})\s*""", re.DOTALL
)
"""A list, tuple or set of texts as Python writes it, and so pandas in a CSV file."""


def as_text(value: Any, column: str, place: str) -> str:
    """A cell as text: strings as they are, numbers and truth values as they are written, bytes as UTF-8.

    `place`: where the cell stands, for the message of an InputError.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InputError(f"{place}: column {column!r} holds a list with a null in it; give a text or leave it out.")
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{place}: column {column!r} holds bytes that are not UTF-8; store text.") from None
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise InputError(f"{place}: column {column!r} holds {kind}; give a text or a number.")
    return str(value)


def refuse_written_list(cell: Any, column: str, place: str, advice: str) -> None:
    """Raise InputError, with advice on how to write lists, for a label that is a list written as text."""
    if isinstance(cell, str) and WRITTEN_LIST.fullmatch(cell):
        raise InputError(f"{place}: {cell!r} in column {column!r} is a list as Python writes it; {advice}.")
