"""Texts that are the same but for case, spaces and the form of their characters, known by eight bytes each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

from bothways.language import CHINESE
from bothways.tables.table import Table
from bothways.tokenizer import Text

BESIDE_CHINESE = re.compile(f"(?<={CHINESE.pattern}) | (?={CHINESE.pattern})")
"""A space that parts nothing, since Chinese characters stand alone anyway."""


def folded(text: Text) -> str:
    """A text without what people overlook: its characters as Unicode's NFKC has them, no capitals, single spaces, none
    beside a Chinese character."""
    plain = text if isinstance(text, str) else " ".join(text)
    if plain.isascii():
        return " ".join(plain.lower().split())
    plain = " ".join(unicodedata.normalize("NFKC", plain).casefold().split())
    return BESIDE_CHINESE.sub("", plain)


def keys(table: Table) -> np.ndarray:
    """What the texts (or pairs of texts) of a table are known by: the same key, the same text after folding.

    → (rows,) uint64. Two of a million different texts share one by chance once in 40 million tables.
    """
    seconds = [None] * len(table) if table.pairs is None else table.pairs
    found = (
        key_of(folded(text) if second is None else f"{folded(text)}\n{folded(second)}")
        for text, second in zip(table.texts, seconds, strict=True)
    )
    return np.fromiter(found, np.uint64, len(table))


def key_of(text: str) -> int:
    """The same number for the same text, in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def groups(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each text that stands more than once, in order. (rows,) → arrays of rows"""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
    ends = np.append(starts[1:], len(order))
    several = np.flatnonzero(ends - starts > 1)
    several = several[np.argsort(order[starts[several]])]  # as they come in the table
    for start, end in zip(starts[several], ends[several], strict=True):
        yield order[start:end]
