"""What a report says of one output layer: a file for each kind of output, chosen by the class of its task."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words
from bothways.evaluation.sections.multi import of_multi
from bothways.evaluation.sections.parts import Excerpts, Section
from bothways.evaluation.sections.regression import of_regression
from bothways.evaluation.sections.single import of_single
from bothways.evaluation.sections.tags import of_tags
from bothways.tasks import Task


@singledispatch
def section(task: Task, number: int, output: OutputObservation, metrics: dict[str, Any], texts: Excerpts) -> Section:
    """The part of the page that one output layer has. `metrics`: what metrics.json says of it."""
    return Section(
        name=task.name, number=number, sentence=Words("There is no picture of this kind.", "此类输出没有图表。")
    )


for of_kind in (of_single, of_multi, of_regression, of_tags):
    section.register(of_kind)
