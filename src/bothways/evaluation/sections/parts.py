"""What a section of a report is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import escape

from bothways.evaluation.observation import Observation
from bothways.evaluation.page import Words, excerpt
from bothways.evaluation.pictures import Chart

SEVERE = 20
"""So many of the most confident mistakes are shown."""
MOST_LINES = 200


@dataclass(frozen=True)
class Example:
    """A text with what was expected of it and what was said."""

    row: Words
    text: str
    expected: str
    predicted: str
    score: str
    at: int = -1
    """Which of the observed rows it is."""


@dataclass(frozen=True)
class Cell:
    """The texts of one class that were taken for one of the classes."""

    anchor: str
    expected: str
    predicted: str
    count: int
    of: int
    """All texts of the expected class."""
    examples: list[Example]
    right: bool

    @property
    def left_out(self) -> int:
        """How many texts are not shown."""
        return self.count - len(self.examples)

    @property
    def heat(self) -> int:
        """0 to 9: how deep its colour is; a quarter of the class in a wrong cell is the deepest."""
        return min(9, int(self.count / max(1, self.of) * (10 if self.right else 40)))


@dataclass(frozen=True)
class Grid:
    """A table of the page; the first column names a row, the others hold aligned numbers."""

    caption: Words
    header: list[Words]
    rows: list[list[Any]]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of an output; parts that do not apply are empty."""

    name: str
    number: int
    sentence: Words
    charts: list[Chart] = field(default_factory=list)
    notes: list[Words] = field(default_factory=list)
    """Sentences below the charts."""
    labels: list[str] = field(default_factory=list)
    """Of the rows and columns of the matrix."""
    matrix: list[list[Cell]] = field(default_factory=list)
    confused: list[Cell] = field(default_factory=list)
    """The pairs most confused, where there are too many classes for a matrix."""
    cells: list[Cell] = field(default_factory=list)
    """Those whose texts are shown."""
    grids: list[Grid] = field(default_factory=list)
    mistakes: list[Example] = field(default_factory=list)
    mistakes_left_out: int = 0
    slider: dict[str, Any] | None = None
    """The data of "none of these"."""
    kept: list[tuple[float, float, float]] = field(default_factory=list)
    """(share of texts kept, distance, share of them that is right): what the slider says, as a table."""


class Excerpts:
    """Examples of texts, as long as the page has room for them."""

    def __init__(self, findings: Observation, room: int) -> None:
        """`room`: bytes that all texts together may take."""
        self.findings, self.room = findings, room
        self.lines = lines_in(room)
        """Lines that a table may have."""

    def take(self, most: int, rows: Iterable[int], example: Callable[[int, Words, str], Example]) -> list[Example]:
        """The examples of some rows, best first, until `most` or the room is reached. `example`: makes one of
        (index of the row, where it stands, its text)."""
        found: list[Example] = []
        for row in rows:
            if len(found) == most:
                break
            text = self.text(row)
            cost = len(escape(text).encode()) + 120
            if cost > self.room:
                break
            self.room -= cost
            found.append(replace(example(row, place(self.findings.rows[row]), text), at=row))
        return found

    def text(self, row: int) -> str:
        """The beginning of a text, or of a pair of texts."""
        sides = [self.findings.texts[row]] + ([] if self.findings.pairs is None else [self.findings.pairs[row]])
        return " ‖ ".join(excerpt(side if isinstance(side, str) else " ".join(side)) for side in sides)


def lines_in(room: int) -> int:
    """How many lines a table may have, where all texts may take so many bytes."""
    return min(MOST_LINES, max(10, room // 150))


def place(row: str) -> Words:
    """Where a row stands, in both languages where it is a line or a row."""
    found = re.fullmatch(r"(?:line|row) (\d+)", row)
    return Words(row, f"第 {found[1]} 行" if found else row)


RATES = [Words("precision", "精确率"), Words("recall", "召回率"), Words("F1", "F1")]


def rates(right: int, predicted: int, there: int) -> list[str]:
    """Precision, recall and F1 as a table shows them; a dash where they are not defined."""
    parts = ((right, predicted), (right, there), (2 * right, predicted + there))
    return [f"{a / b:.3f}" if b else "–" for a, b in parts]
