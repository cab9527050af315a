"""What was seen while a classifier was evaluated, as JSON beside the model: its confusion matrices with the texts of
their cells. The report shows excerpts of these; the server's page shows all of them, and a text can be asked about.

    {"evaluated_on": FILE, "rows": n, "outputs": [{"name", "kind", "sentence", "notes", "labels", "totals", "cells":
    [{"expected": i, "predicted": j, "count": n, "texts": [TEXT, …]}], "grids", "mistakes": [TEXT, …]}]}

Cells are those that are not empty; outputs without a confusion matrix have none. Sentences are in both languages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.evaluation.observation import Observation, OutputObservation
from bothways.evaluation.page import Words, excerpt
from bothways.evaluation.sections import Excerpts, section
from bothways.evaluation.sections.parts import Example, Grid, place
from bothways.tasks.single import SingleLabel

EVALUATION = "evaluation.json"
"""Its name in a model directory."""
MOST_BYTES = 2_000_000
ROOM = 600_000
"""Bytes of texts; if the file is too large nevertheless, half as many are tried, and so on."""
MOST_OUTPUTS = 100
MOST_CELLS = 20_000
"""Of all outputs."""
CELL_TEXTS = 20
MOST_CHARACTERS = 1000
"""Of a longer text the beginning is kept."""
LONGEST_LABEL = 120
OVERHEAD = 160
"""About the bytes of a text's JSON beside the text itself."""


def evaluation_json(findings: Observation) -> str:
    """The content of the file, at most `MOST_BYTES` long."""
    room, cells = ROOM, MOST_CELLS
    while True:
        content = json.dumps(evaluation(findings, room, cells), ensure_ascii=False, separators=(",", ":")) + "\n"
        if len(content.encode()) <= MOST_BYTES or cells < MOST_OUTPUTS:
            return content
        room, cells = room // 2, cells // 2


def evaluation(findings: Observation, room: int, cells: int) -> dict[str, Any]:
    """All outputs that some row says something of. `room`: bytes of texts; `cells`: the most that all have."""
    chosen = [output for output in findings.outputs if len(output.labelled)][:MOST_OUTPUTS]
    share = max(1, len(chosen))
    source = findings.metrics.get("evaluated_on")
    return {
        "evaluated_on": None if source is None else excerpt(str(source)),
        "rows": len(findings.texts),
        "outputs": [output_as_json(findings, output, room // share, cells // share) for output in chosen],
    }


def output_as_json(findings: Observation, output: OutputObservation, room: int, cells: int) -> dict[str, Any]:
    """What is known of one output: all that its section of the report says, and its confusion matrix."""
    task = output.task
    metrics = findings.metrics["outputs"].get(task.name, {})
    shown = section(task, 0, output, metrics, Excerpts(findings, room))
    has_matrix = isinstance(task, SingleLabel)
    matrix: dict[str, Any] = {"labels": [], "totals": [], "cells": []}
    return {
        "name": task.name,
        "kind": task.kind,
        "sentence": words(shown.sentence),
        "notes": [words(note) for note in shown.notes],
        **(Confusion.of(output).as_json(findings, room, cells) if has_matrix else matrix),
        "grids": [grid_as_json(grid) for grid in shown.grids],
        "mistakes": [mistake(findings, example) for example in shown.mistakes],
    }


@dataclass(frozen=True)
class Confusion:
    """Which classes were taken for which: of n texts that have a label."""

    labels: Sequence[str]
    rows: np.ndarray
    """(n,) which of the observed rows each is"""
    expected: np.ndarray
    """(n,) classes"""
    probabilities: np.ndarray
    """(n, classes)"""

    @classmethod
    def of(cls, output: OutputObservation) -> Confusion:
        """That of an output that decides one class of several."""
        rows = output.labelled
        p = np.array([output.probabilities[row] for row in rows])
        expected = np.array([output.expected[row] for row in rows])
        return cls([excerpt(label, LONGEST_LABEL) for label in output.task.output.labels], rows, expected, p)

    def as_json(self, findings: Observation, room: int, most: int) -> dict[str, Any]:
        """Its cells, those with most errors first, then the right ones; each class's number of texts in "totals".
        A wrong cell has its surest texts, a right one its least sure; while there is room, each gets one in turn."""
        predicted = self.probabilities.argmax(-1)
        width = len(self.labels)
        codes, inverse, counts = np.unique(self.expected * width + predicted, return_inverse=True, return_counts=True)
        right = codes // width == codes % width
        order = np.lexsort((codes, -counts, right))[:most]
        members = [np.flatnonzero(inverse == index) for index in order]
        sure = self.probabilities.max(-1)
        queues = [
            list(at[np.argsort(sure[at] if right[index] else -sure[at], kind="stable")][:CELL_TEXTS])
            for index, at in zip(order, members, strict=True)
        ]
        texts: list[list[dict[str, Any]]] = [[] for _ in queues]
        for cell, at in in_turn(queues):
            text = self.text(findings, int(at))
            room -= sum(len(side.encode()) for side in text["texts"]) + OVERHEAD
            if room < 0:
                break
            texts[cell].append(text)
        return {
            "labels": list(self.labels),
            "totals": np.bincount(self.expected, minlength=width).tolist(),
            "cells": [
                {
                    "expected": int(codes[index] // width),
                    "predicted": int(codes[index] % width),
                    "count": int(counts[index]),
                    "texts": texts[cell],
                }
                for cell, index in enumerate(order)
            ],
        }

    def text(self, findings: Observation, at: int) -> dict[str, Any]:
        """A text with the probabilities of the class it was taken for and of its own."""
        p = self.probabilities[at]
        scores = {"score": number(p.max()), "expected_score": number(p[self.expected[at]])}
        return text_of(findings, int(self.rows[at])) | scores


def in_turn(queues: Sequence[Sequence[Any]]) -> Iterator[tuple[int, Any]]:
    """(index of a queue, entry): the first of each, then the second of each, …"""
    for turn in range(max(map(len, queues), default=0)):
        for index, queue in enumerate(queues):
            if turn < len(queue):
                yield index, queue[turn]


def text_of(findings: Observation, row: int) -> dict[str, Any]:
    """An observed text, or both of a pair, and where it stands."""
    sides = [findings.texts[row]] + ([] if findings.pairs is None else [findings.pairs[row]])
    full = [side if isinstance(side, str) else " ".join(side) for side in sides]
    return {
        "row": words(place(findings.rows[row])),
        "texts": [text[:MOST_CHARACTERS] for text in full],
        "truncated": any(len(text) > MOST_CHARACTERS for text in full),
    }


def mistake(findings: Observation, example: Example) -> dict[str, Any]:
    """A text of the report's list of mistakes; its figures are as the report writes them."""
    said = {"expected": example.expected, "predicted": example.predicted, "score": example.score}
    return text_of(findings, example.at) | said


def grid_as_json(grid: Grid) -> dict[str, Any]:
    """A table of the report."""
    return {
        "caption": words(grid.caption),
        "header": [words(cell) for cell in grid.header],
        "rows": [[str(cell) for cell in row] for row in grid.rows],
        "left_out": grid.left_out,
    }


def words(both: Words) -> dict[str, str]:
    """A sentence in both languages."""
    return {"en": both.en, "zh": both.zh}


def number(probability: float) -> float | None:
    """A probability as JSON can hold it."""
    return round(float(probability), 4) if math.isfinite(probability) else None
