"""Whether a value has the type that a field of a configuration spells: given in Python, or read from JSON."""

from __future__ import annotations

import math
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

UNIONS = (UnionType, Union)
"""`int | None` is of the first kind, `Literal["a"] | None` of the second."""


def fits(value: object, hint: Any) -> bool:
    """Whether a value has a type, as the fields of configurations spell it: numbers are finite, whole numbers are
    numbers, truth values are not. Types of other kinds are left to whoever made the value."""
    parts = get_args(hint)
    if get_origin(hint) in UNIONS:
        return any(value is None if part is NoneType else fits(value, part) for part in parts)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in parts
    if get_origin(hint) is tuple:
        return isinstance(value, (list, tuple)) and all(fits(part, parts[0]) for part in value)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(float(value))
    return isinstance(value, hint) if hint in (str, bool) else True


def spelled(hint: Any) -> str:
    """A type that `fits` knows, in words."""
    parts = get_args(hint)
    if get_origin(hint) in UNIONS:
        return " or ".join("null" if part is NoneType else spelled(part) for part in parts)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(parts)}"
    if get_origin(hint) is tuple:
        return f"a list, each of it {spelled(parts[0])}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))
