"""One class of several: the confusion matrix with its texts, calibration, and "none of these"."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bothways.evaluation.confusion import Confusion
from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words, excerpt, percent
from bothways.evaluation.pictures import reliability
from bothways.evaluation.sections.parts import (
    RATES,
    SEVERE,
    Cell,
    Example,
    Excerpts,
    Grid,
    Section,
    rates,
)
from bothways.tasks.single import SingleLabel

MATRIX_CLASSES = 12
"""With more classes a matrix is no picture any more; the pairs most confused are listed."""
MOST_CELLS, CELL_TEXTS, RIGHT_TEXTS = 40, 5, 2
"""Cells whose texts are shown; texts of a wrong cell, and of a right one."""


def of_single(
    task: SingleLabel, number: int, output: OutputObservation, metrics: dict[str, Any], texts: Excerpts
) -> Section:
    labels, confusion = [excerpt(label, 40) for label in task.output.labels], Confusion.of(output)
    rows, truth, found, sure = confusion.rows, confusion.expected, confusion.predicted, confusion.sure

    def example(at: int, place: Words, text: str) -> Example:
        return Example(place, text, labels[truth[at]], labels[found[at]], f"{sure[at]:.2f}")

    def taken(at: Iterable[int], most: int) -> list[Example]:
        back = {int(rows[i]): int(i) for i in at}
        return texts.take(most, back, lambda row, place, text: example(back[row], place, text))

    wrong = np.flatnonzero(truth != found)
    mistakes = taken(wrong[np.argsort(-sure[wrong], kind="stable")], SEVERE)
    cells = cells_of(number, labels, confusion, taken)
    filled = [cell for cell in cells.values() if cell.count]
    square = len(labels) <= MATRIX_CLASSES
    slider, kept = none_of_these(output, rows, truth == found)
    return Section(
        name=task.name,
        number=number,
        sentence=sentence_of_single(metrics),
        charts=[reliability((output.calibration or {}).get("bins") or metrics["bins"])],
        notes=[calibration_note(output, metrics)],
        labels=labels if square else [],
        matrix=[[cells[i, j] for j in range(len(labels))] for i in range(len(labels))] if square else [],
        confused=[] if square else [cell for cell in filled if not cell.right][: min(MOST_CELLS, texts.lines)],
        cells=[cell for cell in filled if cell.examples],
        grids=[grid_of_classes(labels, confusion.counts, texts.lines)],
        mistakes=mistakes,
        mistakes_left_out=len(wrong) - len(mistakes),
        slider=slider,
        kept=kept,
    )


def sentence_of_single(metrics: dict[str, Any]) -> Words:
    """How good it is, beside the answer that needs no model."""
    right, n, classes = metrics["accuracy"], metrics["examples"], metrics["classes"]
    common = max(classes, key=lambda label: classes[label]["examples"])
    share, common = classes[common]["examples"] / n, excerpt(common, 40)
    span = (metrics.get("intervals") or {}).get("accuracy")
    en = f" (95 % interval {percent(span[0])} to {percent(span[1])})" if span else ""
    zh = f"（95% 区间 {percent(span[0])} 至 {percent(span[1])}）" if span else ""
    return Words(
        f"Right on {percent(right)} of {n:,} texts{en}. Always answering “{common}” would be right on "
        f"{percent(share)}.",
        f"在 {n:,} 条文本上答对 {percent(right)}{zh}。若总是回答“{common}”，只能答对 {percent(share)}。",
    )


def cells_of(
    number: int,
    labels: list[str],
    confusion: Confusion,
    taken: Callable[[Iterable[int], int], list[Example]],
) -> dict[tuple[int, int], Cell]:
    """The cells of the confusion matrix that are not empty, or all of them where it is small, with some texts."""
    small, counts, filled = len(labels) <= MATRIX_CLASSES, confusion.counts, confusion.cells
    empty = [place for place in np.ndindex(counts.shape) if place not in filled] if small else []
    cells = {}
    for shown, (i, j) in enumerate([*filled, *empty]):
        right = i == j
        most = RIGHT_TEXTS if right and small else 0 if right or shown >= MOST_CELLS else CELL_TEXTS
        cells[i, j] = Cell(
            f"o{number}e{i}p{j}",
            labels[i],
            labels[j],
            int(counts[i, j]),
            int(counts[i].sum()),
            taken(filled.get((i, j), ()), most),
            right,
        )
    return cells


def grid_of_classes(labels: list[str], counts: np.ndarray, most: int) -> Grid:
    """Precision, recall and F1 of each class, the worst first."""
    right, predicted, there = counts.diagonal(), counts.sum(0), counts.sum(1)
    rows = [
        [label, *rates(int(right[i]), int(predicted[i]), int(there[i])), f"{there[i]:,}"]
        for i, label in enumerate(labels)
    ]
    order = sorted(range(len(labels)), key=lambda i: 2 * right[i] / max(1, predicted[i] + there[i]))
    return Grid(
        Words("Each class, the worst first", "各类别，最差的在前"),
        [Words("class", "类别"), *RATES, Words("texts", "文本数")],
        [rows[i] for i in order[:most]],
        max(0, len(labels) - most),
    )


def calibration_note(output: OutputObservation, metrics: dict[str, Any]) -> Words:
    """How far its probabilities can be believed."""
    if output.calibration is None:
        error = percent(metrics["expected_calibration_error"])
        return Words(
            f"Its probabilities are off by {error} on average (expected calibration error).",
            f"其概率平均偏离 {error}（期望校准误差 ECE）。",
        )
    before, after = (percent(float(output.calibration[when])) for when in ("before", "after"))
    temperature = f"{float(output.calibration['temperature']):.2f}"
    return Words(
        f"Its probabilities are off by {after} on average (expected calibration error), {before} before they were "
        f"calibrated with the temperature {temperature}: each half of the rows with the temperature of the other half.",
        f"其概率平均偏离 {after}（期望校准误差 ECE）；以温度 {temperature} 校准之前为 {before}。"
        f"每一半数据都用另一半拟合的温度来测量。",
    )


def none_of_these(
    output: OutputObservation, rows: np.ndarray, right: np.ndarray
) -> tuple[dict[str, Any] | None, list[tuple[float, float, float]]]:
    """What becomes of known texts as the threshold of the distance moves: (data of the slider, a table of it)."""
    if output.known_scores is None:
        return None, []
    distances = np.asarray(output.known_scores, float)[rows]
    order = np.argsort(distances, kind="stable")
    right_so_far = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    steps = []
    for share in np.linspace(0.5, 1.0, 101):  # what the slider stops at
        last = max(1, round(share * len(order))) - 1
        steps.append((round(float(share), 3), float(f"{distances[order[last]]:.5g}"), round(right_so_far[last], 4)))
    threshold = output.threshold
    now = 100 if threshold is None else int(np.argmin([abs(distance - threshold) for _, distance, _ in steps]))
    return {"steps": steps, "now": now}, [steps[i] for i in (100, 98, 90, 80, 60)]
