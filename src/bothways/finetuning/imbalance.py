"""Classes of unequal size: what their losses weigh, learned from the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bothways.finetuning.config import Imbalance
from bothways.model.config import OutputConfig
from bothways.tables.table import Table
from bothways.tasks import Task, tasks_of

POWER = 0.5
"""Weights are those of scikit-learn's "balanced" to this power (docs/decisions.md)."""
GAMMA = 2.0
"""The exponent of the focal loss, as published (arXiv 1708.02002, section 4.1)."""
UNEQUAL = 4
"""Classes are clearly unequal if one has so many times the rows of another."""


def balanced(outputs: Sequence[OutputConfig], table: Table, imbalance: Imbalance) -> tuple[OutputConfig, ...]:
    """Output layers with losses as asked for, by the rows of a training table; one that has weights keeps them."""
    change = CHANGES[imbalance]
    tasks = {task.name: task for task in tasks_of(tuple(outputs))}
    return tuple(
        output if output.class_weights or output.name not in tasks else change(tasks[output.name], table)
        for output in outputs
    )


def unchanged(task: Task, table: Table) -> OutputConfig:
    """Every row counts the same."""
    return task.output


def weighted(task: Task, table: Table) -> OutputConfig:
    """Rare classes count more (for `multi`, labels where they are present)."""
    return replace(task.output, class_weights=task.class_weights(table.targets(task), POWER))


def focal(task: Task, table: Table) -> OutputConfig:
    """What is right already counts less."""
    return replace(task.output, focal_gamma=GAMMA) if task.output.labels else task.output


def chosen(task: Task, table: Table) -> OutputConfig:
    """Weights where they are known to help: for classes that are clearly unequal (docs/decisions.md)."""
    counts = task.label_counts(table.targets(task))
    return weighted(task, table) if task.weighs_classes and counts.max() >= UNEQUAL * counts.min() else task.output


CHANGES = {"none": unchanged, "weights": weighted, "focal": focal, "auto": chosen}
