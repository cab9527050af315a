"""One text explained, by whichever method."""

from __future__ import annotations

from typing import Protocol

from bothways.explanation.decisions import label_index, task_named
from bothways.explanation.result import Explanation
from bothways.explanation.words import Reading, read
from bothways.inference.engine import Engine
from bothways.tasks import Task
from bothways.tokenizer import Text


class Method(Protocol):
    """A way to find out what each word contributes: `leave_out.LeaveOneOut`, `gradients.IntegratedGradients`."""

    engine: Engine

    def explain(self, reading: Reading, task: Task, label: int | None = None) -> Explanation:
        """What each word contributes to the decisions of a task, or to what it says of one label."""


def explain(
    method: Method, text: Text, pair: Text | None = None, *, output: str | None = None, label: str | None = None
) -> Explanation:
    """What each word of a text, or of a pair, contributes.

    `output`: the output layer; None: the first. `label`: the label; None: what is decided. Raises InputError for names
    that the model does not have, and for a pair where it reads single texts, and the reverse.
    """
    task = task_named(method.engine.tasks, output)
    label_number = label_index(task, label)
    return method.explain(read(method.engine, text, pair), task, label_number)
