"""What a cell of a table may hold."""

from __future__ import annotations

from typing import Any

from bothways.errors import InputError


def as_text(value: Any, column: str, place: str) -> str:
    """A cell as text: strings as they are, numbers and truth values as they are written, bytes as UTF-8.

    `place`: where the cell stands, for the message of an InputError.
    """
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{place}: column {column!r} holds bytes that are not UTF-8; store text.") from None
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise InputError(f"{place}: column {column!r} holds {kind}; give a text or a number.")
    return str(value)
