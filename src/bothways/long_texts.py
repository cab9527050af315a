"""Which tokens of a text are read that has more of them than the encoder reads at once.

head       the first                        tail     the last
both       a quarter of them from the start, the rest from the end (arXiv 1905.05583, section 5.3)
windows    all: several sequences that overlap, whose representations are averaged (`model.pooling`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bothways.errors import InputError

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


def fit(lengths: Sequence[int], room: int | None) -> list[int]:
    """How much of each text to keep in `room` tokens: the longer gives way, token by token, until both are equal."""
    kept = list(lengths)
    if room is None or sum(kept) <= room:
        return kept
    if room < 0:
        raise InputError("The length asked for leaves no room for the special tokens; ask for more tokens a text.")
    if len(kept) == 1:
        return [room]
    short = min(*kept, room // 2)
    return [room - short, short] if kept[0] > kept[1] else [short, room - short]


def windows_of(lengths: Sequence[int], room: int | None, selection: Selection) -> list[list[Spans]]:
    """For each window of a text, or of a pair of these `lengths`, which tokens of each text it has; `room` in all."""
    kept = fit(lengths, room)
    if kept == list(lengths):
        return [[[(0, length)] for length in lengths]]
    longer = lengths.index(max(lengths))
    windows = selection.select(lengths[longer], kept[longer])
    shorter = HEAD if len(windows) > 1 else selection
    return [
        [spans if text == longer else shorter.select(length, kept[text])[0] for text, length in enumerate(lengths)]
        for spans in windows
    ]


def laid_out(parts: Sequence[Sequence[Any]], windows: list[list[Spans]], cls: Any, sep: Any) -> list[Any]:
    """What there is for each token of each text → for each token of all windows, end to end."""
    laid = []
    for window in windows:
        laid.append(cls)
        for part, spans in zip(parts, window, strict=True):
            for start, stop in spans:
                laid += part[start:stop]
            laid.append(sep)
    return laid
