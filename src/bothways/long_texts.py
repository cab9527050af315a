"""Which tokens of a text are read that has more of them than the encoder reads at once.

head       the first                        tail     the last
both       a quarter of them from the start, the rest from the end (arXiv 1905.05583, section 5.3)
windows    all: several sequences that overlap, whose representations are averaged (`model.pooling`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

LongTexts = Literal["head", "tail", "both", "windows"]
Spans = list[tuple[int, int]]
"""Stretches of the tokens of a text, each from its first to before its last, in order; none meets another."""


class Selection(Protocol):
    """A way to choose among the tokens of a text."""

    def select(self, length: int, room: int) -> list[Spans]:
        """The windows, one or more, of a text of `length` tokens, of which at most `room` fit into each."""


class Head:
    """The first tokens."""

    def select(self, length: int, room: int) -> list[Spans]:
        return [[(0, min(length, room))]]


class Tail:
    """The last tokens."""

    def select(self, length: int, room: int) -> list[Spans]:
        return [[(max(0, length - room), length)]]


class Both:
    """The first tokens and the last: one and three of four, as the 128 and 382 of the paper."""

    def select(self, length: int, room: int) -> list[Spans]:
        if length <= room:
            return [[(0, length)]]
        first = room // 4
        return [[(0, first), (length - room + first, length)]]


@dataclass(frozen=True)
class Windows:
    """As few windows as cover the text, all of one length.

    A last window of the few tokens that are left over would count as much as the others and know nothing of what was
    before it. So windows are as short as they can be, and lie as far apart as they can.
    """

    overlap: int
    """Tokens that a window has in common with the one before it, at least; half a window where that is less."""
    most: int
    """So many windows a text; tokens that lie beyond are not read."""

    def select(self, length: int, room: int) -> list[Spans]:
        if length <= room:
            return [[(0, length)]]
        overlap = min(self.overlap, room // 2)
        number = min(self.most, -(-(length - overlap) // max(1, room - overlap)))
        if number < 2:
            return HEAD.select(length, room)
        read = min(length, covered(number, room, overlap))
        width = -(-(read + (number - 1) * overlap) // number)
        starts = [i * (read - width) // (number - 1) for i in range(number)]
        return [[(start, start + width)] for start in starts]


HEAD = Head()


def selection_of(long_texts: LongTexts, *, overlap: int, most_windows: int) -> Selection:
    """The way that has this name."""
    ways: dict[LongTexts, Selection] = {
        "head": HEAD,
        "tail": Tail(),
        "both": Both(),
        "windows": Windows(overlap, most_windows),
    }
    return ways[long_texts]


def covered(number: int, room: int, overlap: int) -> int:
    """How many tokens so many windows read, those in two counted once."""
    return number * room - (number - 1) * overlap


def read_once(windows: Sequence[Spans]) -> int:
    """How many tokens all windows of a text read, those in two counted once."""
    read, before = 0, 0
    for spans in windows:
        for start, stop in spans:
            read += stop - max(start, before)
            before = stop
    return read
