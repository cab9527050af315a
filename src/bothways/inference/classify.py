"""Classifying a table or standard input, some thousand texts at a time, in constant memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.files.reading import STANDARD_INPUT, read_standard_input
from bothways.inference.engine import Engine
from bothways.tables.rows import read_rows
from bothways.tables.table import Columns, text_cell
from bothways.tasks import Task
from bothways.tokenizer import Text


def classify(engine: Engine, file: str, reject: str | None = None) -> Iterator[dict[str, Any]]:
    """The answer to each text of a table, or to each line of standard input (`-`), in order; see `answers`.

    Raises InputError for a row that cannot be read.
    """
    for given, texts, pairs in windows(engine, file):
        for text, answer in zip(
            given, answers(engine.tasks, texts, engine.run(engine.encode(texts, pairs)), reject), strict=True
        ):
            yield answer | {"text": text}


def answers(
    tasks: tuple[Task, ...], texts: list[Text], predictions: Predictions, reject: str | None = None
) -> Iterator[dict[str, Any]]:
    """One JSON object for each text: `{"text": …, "outputs": {NAME: …}, "tokens": n, "truncated": false}`.

    What NAME holds is said in `Task.answer` of its kind; and "known": false if the text is of none of the classes; its
    label is then `reject`, if that is given.
    """
    probabilities = {task.name: task.probabilities(predictions) for task in tasks}
    known = {task.name: found for task in tasks if (found := task.known(predictions)) is not None}

    def answer(task: Task, i: int, text: Text) -> dict[str, Any]:
        said = task.answer(probabilities[task.name][i], text)
        if task.name not in known:
            return said
        said["known"] = bool(known[task.name][i])
        return said if said["known"] or reject is None else said | {"label": reject}

    for i, (text, encoding) in enumerate(zip(texts, predictions.encodings, strict=True)):
        yield {
            "text": text if isinstance(text, str) else " ".join(text),
            "outputs": {task.name: answer(task, i, text) for task in tasks},
            "tokens": encoding.read,
            "truncated": encoding.dropped > 0,
        }


def windows(engine: Engine, file: str) -> Iterator[tuple[list[Text], list[Text], list[Text] | None]]:
    """The texts of a table or of standard input as given, as the model reads them (as words, perhaps), and the second
    ones of pairs; a person who types gets one at a time."""
    names = engine.config.text_columns
    columns = Columns(text=names[0], text_pair=names[1] if len(names) > 1 else None)
    size = engine.window
    if file == STANDARD_INPUT:
        if columns.text_pair is not None:
            raise InputError("This model reads pairs of texts; give a table with both columns.")
        rows: Iterator[Any] = ((f"line {number}", {columns.text: line}) for number, line in stdin_lines())
        file, size = "standard input", 1 if is_interactive() else size
    else:
        rows = read_rows(file)
    while window := list(islice(rows, size)):
        given, texts, pairs = (
            [text_cell(cells, column, pretokenized, f"{file}, {where}") for where, cells in window]
            if column is not None
            else None
            for column, pretokenized in (
                (columns.text, False),
                (columns.text, engine.pretokenized),
                (columns.text_pair, engine.pretokenized),
            )
        )
        assert given is not None
        assert texts is not None, "there is always a column of texts"
        yield given, texts, pairs


def stdin_lines() -> Iterator[tuple[int, str]]:
    """The lines of standard input with their numbers, as UTF-8 whatever the terminal believes."""
    if sys.stdin is None:
        raise InputError("standard input is closed; name a table, or give texts there, one a line.")
    return read_standard_input(sys.stdin.buffer, "standard input")


def is_interactive() -> bool:
    """Whether a person types at standard input."""
    return sys.stdin is not None and sys.stdin.isatty()
