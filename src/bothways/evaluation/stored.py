"""What was seen while a classifier was evaluated, as JSON beside the model: its confusion matrices with the texts of
their cells. The report shows excerpts of these; the server's page shows all of them, and a text can be asked about.

    {"evaluated_on": FILE, "rows": n, "all_rows": n, "outputs": [{"name", "kind", "sentence", "notes", "labels",
    "totals", "cells": [{"expected": i, "predicted": j, "count": n, "texts": [TEXT, …]}], "grids", "mistakes":
    [TEXT, …]}], "outputs_left_out": n}

Cells are those that are not empty; outputs without a confusion matrix have none. Sentences are in both languages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.evaluation.confusion import Confusion
from bothways.evaluation.observation import Observation, OutputObservation
from bothways.evaluation.page import Words, excerpt
from bothways.evaluation.sections import Excerpts, Section, section
from bothways.evaluation.sections.parts import Example, Grid, lines_in, place
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
NO_ROOM = Words(
    "There was no room to keep its confusion matrix, tables and texts.", "空间不足，未保存其混淆矩阵、表格和文本。"
)


@dataclass(frozen=True)
class Seen:
    """All that can be told of one output."""

    kind: str
    section: Section
    """What its report says, its lists as long as they ever are here."""
    labels: Sequence[str]
    confusion: Confusion | None
    """None for an output that does not decide one class of several."""


def evaluation_json(findings: Observation) -> str:
    """The content of the file, at most `MOST_BYTES` long: what is too much are texts, cells and lines of tables first,
    then whole matrices and tables, and last whole outputs."""
    labelled = [output for output in findings.outputs if len(output.labelled)]
    chosen = labelled[:MOST_OUTPUTS]
    outputs = [seen(findings, output, ROOM // len(chosen)) for output in chosen]
    room, cells = ROOM, MOST_CELLS
    while cells >= MOST_OUTPUTS:
        told = evaluation(findings, outputs, room, cells) | {"outputs_left_out": len(labelled) - len(outputs)}
        content = written(told)
        if size(content) <= MOST_BYTES:
            return content
        room, cells = room // 2, cells // 2
    left = MOST_BYTES - size(written(told | {"outputs": [], "outputs_left_out": len(labelled)}))
    kept = fitting(told["outputs"], left)
    return written(told | {"outputs": kept, "outputs_left_out": len(labelled) - len(kept)})


def written(value: Any) -> str:
    """As one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def size(content: str) -> int:
    """In bytes."""
    return len(content.encode())


def fitting(outputs: Sequence[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """As many outputs as `room` bytes hold, in their order: first each with its sentences alone, then, while there is
    room, with all that is told of it."""
    kept: list[tuple[dict[str, Any], int]] = []
    for output in outputs:
        bare = output | {"labels": [], "totals": [], "cells": [], "grids": [], "mistakes": []}
        bare["notes"] = [*output["notes"], words(NO_ROOM)]
        cost = size(written(bare))
        if cost > room:
            break
        room -= cost
        kept.append((bare, cost))
    found = []
    for whole, (bare, cost) in zip(outputs, kept, strict=False):
        more = size(written(whole)) - cost
        room -= more if more <= room else 0
        found.append(whole if more <= room else bare)
    return found


def seen(findings: Observation, output: OutputObservation, room: int) -> Seen:
    """All that can be told of one output. `room`: bytes of the texts of its report."""
    task = output.task
    shown = section(task, 0, output, findings.metrics["outputs"].get(task.name, {}), Excerpts(findings, room))
    if not isinstance(task, SingleLabel):
        return Seen(task.kind, shown, (), None)
    labels = [excerpt(label, LONGEST_LABEL) for label in task.output.labels]
    return Seen(task.kind, shown, labels, Confusion.of(output))


def evaluation(findings: Observation, outputs: Sequence[Seen], room: int, cells: int) -> dict[str, Any]:
    """What is told of some outputs. `room`: bytes of texts; `cells`: the most that all have."""
    share = max(1, len(outputs))
    source = findings.metrics.get("evaluated_on")
    return {
        "evaluated_on": None if source is None else excerpt(str(source)),
        "rows": len(findings.texts),
        "all_rows": findings.metrics.get("examples"),
        "outputs": [output_as_json(findings, output, room // share, cells // share) for output in outputs],
    }


def output_as_json(findings: Observation, output: Seen, room: int, cells: int) -> dict[str, Any]:
    """What is told of one output: what its section of the report says, and its confusion matrix."""
    shown, confusion = output.section, output.confusion
    matrix: dict[str, Any] = {"labels": [], "totals": [], "cells": []}
    if confusion is not None:
        told = cells_as_json(findings, confusion, room, cells)
        matrix = {"labels": list(output.labels), "totals": confusion.counts.sum(1).tolist(), "cells": told}
    mistakes = (mistake(findings, example) for example in shown.mistakes)
    return {
        "name": shown.name,
        "kind": output.kind,
        "sentence": words(shown.sentence),
        "notes": [words(note) for note in shown.notes],
        **matrix,
        "grids": [grid_as_json(grid, lines_in(room)) for grid in shown.grids],
        "mistakes": list(within(mistakes, room)),
    }


def cells_as_json(findings: Observation, confusion: Confusion, room: int, most: int) -> list[dict[str, Any]]:
    """The first cells of a matrix with texts: while there is room, each gets one in turn."""
    cells = list(confusion.cells.items())[:most]
    texts: list[list[dict[str, Any]]] = [[] for _ in cells]
    turns = list(in_turn([at[:CELL_TEXTS].tolist() for _, at in cells]))
    told = within((cell_text(findings, confusion, at) for _, at in turns), room)
    for (cell, _), text in zip(turns, told, strict=False):
        texts[cell].append(text)
    return [
        {"expected": i, "predicted": j, "count": len(at), "texts": some}
        for ((i, j), at), some in zip(cells, texts, strict=True)
    ]


def cell_text(findings: Observation, confusion: Confusion, at: int) -> dict[str, Any]:
    """A text with the probabilities of the class it was taken for and of its own."""
    p = confusion.probabilities[at]
    scores = {"score": number(confusion.sure[at]), "expected_score": number(p[confusion.expected[at]])}
    return text_of(findings, int(confusion.rows[at])) | scores


def within(texts: Iterable[dict[str, Any]], room: int) -> Iterator[dict[str, Any]]:
    """Texts until they have so many bytes."""
    for text in texts:
        room -= sum(len(side.encode()) for side in text["texts"]) + OVERHEAD
        if room < 0:
            break
        yield text


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


def grid_as_json(grid: Grid, most: int) -> dict[str, Any]:
    """The first lines of a table of the report."""
    return {
        "caption": words(grid.caption),
        "header": [words(cell) for cell in grid.header],
        "rows": [[str(cell) for cell in row] for row in grid.rows[:most]],
        "left_out": grid.left_out + max(0, len(grid.rows) - most),
    }


def words(both: Words) -> dict[str, str]:
    """A sentence in both languages."""
    return {"en": both.en, "zh": both.zh}


def number(probability: float) -> float | None:
    """A probability as JSON can hold it."""
    return round(float(probability), 4) if math.isfinite(probability) else None
