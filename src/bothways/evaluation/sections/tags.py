"""A label for each word: a table of the types of entities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words, excerpt, percent
from bothways.evaluation.sections.parts import (
    RATES,
    SEVERE,
    Example,
    Excerpts,
    Grid,
    Section,
    rates,
)
from bothways.tasks.tags import Tags, entities, has_scheme


def of_tags(task: Tags, number: int, output: OutputObservation, metrics: dict[str, Any], texts: Excerpts) -> Section:
    rows = output.labelled
    names = [*task.output.labels, "–"]  # -1: a word that was not read
    truth, found, wrong = [], [], {}
    for row in map(int, rows):
        p, expected = output.probabilities[row], [names[tag] for tag in output.expected[row]]
        decided = [names[tag] for tag in task.decide(p)]
        decided += ["–"] * (len(expected) - len(decided))
        truth.append(expected)
        found.append(decided)
        differing = [at for at, (e, d) in enumerate(zip(expected, decided, strict=True)) if e != d]
        if differing:
            sure = max((float(p[at].max()) for at in differing if at < len(p) and not np.isnan(p[at]).any()), default=0)
            wrong[row] = (sure, differing, expected, decided)

    def example(row: int, place: Words, text: str) -> Example:
        sure, differing, expected, decided = wrong[row]
        words = texts.findings.texts[row]

        def tagged(tags: list[str]) -> str:
            return "; ".join(f"{excerpt(words[at], 30)}: {tags[at]}" for at in differing[:6])

        return Example(place, text, tagged(expected), tagged(decided), f"{sure:.2f}")

    mistakes = texts.take(SEVERE, sorted(wrong, key=lambda row: -wrong[row][0]), example)
    right, n = percent(metrics["accuracy"]), metrics["examples"]
    grid = grid_of_tags(truth, found, scheme=has_scheme(task.output.labels), most=texts.lines)
    f1 = metrics.get("f1")
    return Section(
        name=task.name,
        number=number,
        sentence=Words(
            f"Right for {right} of the words of {n:,} texts"
            + (f"; F1 over whole entities is {f1:.3f}." if f1 is not None else "."),
            f"{n:,} 条文本的词中答对 {right}" + (f"；完整实体的 F1 为 {f1:.3f}。" if f1 is not None else "。"),
        ),
        grids=[grid],
        mistakes=mistakes,
        mistakes_left_out=len(wrong) - len(mistakes),
    )


def grid_of_tags(truth: list[list[str]], found: list[list[str]], *, scheme: bool, most: int) -> Grid:
    """Precision, recall and F1 of each type of entity, or of each tag where tags are of no entity scheme."""

    def things(tags: list[str]) -> set[tuple[str, int, int]]:
        return entities(tags) if scheme else {(tag, at, at + 1) for at, tag in enumerate(tags) if tag != "–"}

    there, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for e, d in zip(map(things, truth), map(things, found), strict=True):
        there.update(kind for kind, *_ in e)
        predicted.update(kind for kind, *_ in d)
        right.update(kind for kind, *_ in e & d)
    kinds = sorted(there | predicted, key=lambda kind: (-there[kind], kind))
    return Grid(
        Words("Each type of entity", "各实体类型") if scheme else Words("Each tag", "各标签"),
        [Words("type", "类型"), *RATES, Words("number", "数量")],
        [
            [excerpt(kind, 40) or "–", *rates(right[kind], predicted[kind], there[kind]), f"{there[kind]:,}"]
            for kind in kinds[:most]
        ],
        max(0, len(kinds) - most),
    )
