"""Whether a model says the same in int8 as in fp32, on rows that training has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bothways.batch import Predictions
from bothways.hardware import default_device, int8_bits
from bothways.inference.engine import Engine
from bothways.inference.kernels import fits
from bothways.model.bert import Bert
from bothways.model.config import Int8Agreement
from bothways.tables.joining import as_read
from bothways.tables.table import Table
from bothways.tasks import Task
from bothways.tasks.statistics import wilson_interval
from bothways.tokenizer import Tokenizer

MOST = 2_000
"""Of more rows so many are drawn: a share of 99.5 % is then 99.1 % at least."""


def int8_agreement(bert: Bert, tokenizer: Tokenizer, held_out: Table, *, seed: int = 0) -> Int8Agreement | None:
    """The share of rows to which a model gives the same answers in int8 as in fp32: the same labels, and as known or
    unknown. None if there is no int8 for it here, if it runs on another device, or has no output with labels."""
    if default_device().type != "cpu" or not fits(bert.config.encoder):
        return None
    plain = Engine(bert, tokenizer, precision="fp32")
    tasks = [task for task in plain.tasks if task.output.labels]
    if not tasks or not len(held_out):
        return None
    rows = held_out.take(np.sort(np.random.default_rng(seed).permutation(len(held_out))[:MOST]))
    encodings = plain.encode(as_read(rows.texts, plain.pretokenized), rows.pairs)
    rounded = Engine(bert, tokenizer, precision="int8")
    pairs = zip(decisions_of(tasks, plain.run(encodings)), decisions_of(tasks, rounded.run(encodings)), strict=True)
    equal = sum(one == other for one, other in pairs)
    return Int8Agreement(
        rows=len(rows),
        agreement=round(equal / len(rows), 4),
        at_least=round(wilson_interval(equal, len(rows))[0], 4),
        bits=int8_bits(),
    )


def decisions_of(tasks: list[Task], predictions: Predictions) -> Iterator[list[Any]]:
    """For each text what all outputs say of it, in a form that can be compared."""
    probabilities = [task.probabilities(predictions) for task in tasks]
    known = [task.known(predictions) for task in tasks]
    for i in range(len(predictions.encodings)):
        decisions = [task.decided(task.decide(of[i])) for task, of in zip(tasks, probabilities, strict=True)]
        yield [*decisions, *(bool(of[i]) for of in known if of is not None)]
