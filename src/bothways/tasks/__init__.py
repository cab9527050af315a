"""Kinds of output: everything about each but its layer (`model.outputs`), in one file.

    cell of a table → value → target tensor · logits → probabilities → decision → answer · metrics

`TASKS` has one class for each kind of output layer that classifies; nothing else asks which kind it is.
"""

from bothways.model.config import OutputConfig
from bothways.tasks.multi import MultiLabel
from bothways.tasks.regression import Regression
from bothways.tasks.single import SingleLabel
from bothways.tasks.tags import Tags
from bothways.tasks.task import Task

TASKS: dict[str, type[Task]] = {"single": SingleLabel, "multi": MultiLabel, "regression": Regression, "tags": Tags}
"""By `OutputConfig.kind`. Output layers of pre-training are no tasks: no table has their targets."""


def tasks_of(outputs: tuple[OutputConfig, ...]) -> tuple[Task, ...]:
    """The task of each output layer that has one, in order."""
    detectors = {output.of: output for output in outputs if output.of}
    return tuple(TASKS[output.kind](output, detectors.get(output.name)) for output in outputs if output.kind in TASKS)
