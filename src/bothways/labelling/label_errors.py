"""Labels that are probably wrong: those that a model is sure are others (confident learning, arXiv 1911.00068)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from bothways.errors import InputError
from bothways.labelling.suggestions import Suggestion
from bothways.tables.table import Table
from bothways.tasks import Task


def require_cleanlab() -> None:
    """Raise InputError if the extra is missing."""
    if find_spec("cleanlab") is None:
        raise InputError("To look for label errors, install cleanlab: pip install 'bothways[labels]'")


def label_errors(
    table: Table, tasks: Sequence[Task], probabilities: Mapping[str, Sequence[np.ndarray]]
) -> list[Suggestion]:
    """The rows whose label is probably wrong, the least likely label first.

    `probabilities`: by output, what a model says of each row (of a model that was not trained on it, or it knows the
    wrong answer). Raises InputError if cleanlab is missing or an output has no labels.
    """
    require_cleanlab()
    found = [each for task in tasks for each in errors_of(table, task, probabilities[task.name])]
    return sorted(found, key=lambda each: (each.score, each.index))


def errors_of(table: Table, task: Task, probabilities: Sequence[np.ndarray]) -> Iterator[Suggestion]:
    """The same for one output. Rows where the model would give the label that is there are not doubted."""
    targets, values = table.targets(task), table.values[task.name]
    rows = [i for i, target in enumerate(targets) if task.labelled(target)]
    if not rows:
        return
    scores, wrong = task.label_errors([targets[i] for i in rows], [probabilities[i] for i in rows])
    for place in np.flatnonzero(wrong):
        row = rows[place]
        suggested = task.decided(task.decide(probabilities[row]))
        if not task.same(values[row], suggested):
            yield Suggestion(
                index=row,
                output=task.name,
                given=task.written(values[row]),
                suggested=task.written(suggested),
                score=round(float(scores[place]), 6),
            )
