"""What is explained: the output, the label, and where in the logits the decision is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.tasks import Task
from bothways.tasks.task import shown


@dataclass(frozen=True)
class Decisions:
    """The decisions of one output about a text and its variants: one each, or one for each word."""

    logits: np.ndarray
    """(variants, places, width) float32."""
    scores: np.ndarray
    """(variants, places, width) float32: the same as is shown to people."""
    words: list[int | None]
    """The word that each place is about; None: the whole text."""
    tokens: list[int | None]
    """The token that each place is at; None: the whole text."""


def decisions_of(task: Task, predictions: Predictions) -> Decisions:
    """What a task decides about the variants of one text; where it reads tokens, all have them at the same places."""
    probabilities = task.probabilities(predictions)
    if task.name not in predictions.token_logits:
        logits = predictions.logits[task.name]
        return Decisions(logits[:, None], np.asarray(probabilities)[:, None], [None], [None])
    encoding = predictions.encodings[0]
    pieces = encoding.first_pieces
    words = encoding.word_of(pieces)
    logits = np.stack([found[pieces] for found in predictions.token_logits[task.name]])
    scores = np.stack([found[words] for found in probabilities])
    return Decisions(logits, scores, words.tolist(), pieces.tolist())


def task_named(tasks: Sequence[Task], name: str | None) -> Task:
    """The output of this name; None: the first. InputError if there is none."""
    if name is None:
        return tasks[0]
    for task in tasks:
        if task.name == name:
            return task
    raise InputError(f"This model has no output {name!r}, but {shown([task.name for task in tasks])}; name one.")


def label_index(task: Task, label: str | None) -> int | None:
    """Which of its labels a person has named; None: none. InputError if it has no such label."""
    if label is None:
        return None
    labels = task.output.labels
    if not labels:
        raise InputError(f"Output {task.name!r} is a number and has no labels; leave out the label.")
    if label not in labels:
        raise InputError(f"Output {task.name!r} has no label {label!r}, but {shown(labels)}; name one of them.")
    return labels.index(label)


def chosen(task: Task, scores: np.ndarray, label: int | None) -> list[int]:
    """The labels to explain at one place: (width,) → the one that was named, else those that were decided."""
    return [label] if label is not None else task.explained(scores)
