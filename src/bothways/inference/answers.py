"""What is said of texts: an object of JSON, or the cells of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.inference.given import GivenRow
from bothways.tables.writing import written
from bothways.tasks import Task
from bothways.tokenizer import Text


def answers(
    tasks: Sequence[Task],
    texts: Sequence[Text],
    predictions: Predictions,
    reject: str | None = None,
    top: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One JSON object for each text: `{"text": …, "outputs": {NAME: …}, "tokens": n, "truncated": false}`.

    What NAME holds is said in `Task.answer` of its kind; and "known": false if the text is of none of the classes; its
    label is then `reject`, if that is given, and its set of labels empty. `top`: scores of so many labels, the
    likeliest first.
    """
    probabilities = {task.name: task.probabilities(predictions) for task in tasks}
    known = {task.name: found for task in tasks if (found := task.known(predictions)) is not None}

    def answer(task: Task, i: int, text: Text) -> dict[str, Any]:
        found = task.answer(probabilities[task.name][i], text, top)
        if task.name not in known:
            return found
        found["known"] = bool(known[task.name][i])
        if found["known"] or reject is None:
            return found
        return found | {"label": reject} | ({"set": []} if "set" in found else {})

    for i, (text, encoding) in enumerate(zip(texts, predictions.encodings, strict=True)):
        yield {
            "text": text if isinstance(text, str) else " ".join(text),
            "outputs": {task.name: answer(task, i, text) for task in tasks},
            "tokens": encoding.read,
            "truncated": encoding.dropped > 0,
        }


class Form(Protocol):
    """What is written of a row."""

    def answered(self, row: GivenRow, answer: dict[str, Any]) -> dict[str, Any]:
        """A row and its answer, as `answers` gives it."""

    def failed(self, row: GivenRow) -> dict[str, Any]:
        """A row that could not be classified."""


class Objects:
    """Answers as they are, and `{"row": n, "error": "…"}`; what is kept of the row under "kept"."""

    def __init__(self, keep: Sequence[str] = ()) -> None:
        self.keep = keep

    def answered(self, row: GivenRow, answer: dict[str, Any]) -> dict[str, Any]:
        """See `Form`."""
        return self._with_kept(answer | {"text": row.texts[0]}, row)

    def failed(self, row: GivenRow) -> dict[str, Any]:
        """See `Form`."""
        return self._with_kept({"row": row.number, "error": row.error}, row)

    def _with_kept(self, record: dict[str, Any], row: GivenRow) -> dict[str, Any]:
        return record | {"kept": row.kept(self.keep)} if self.keep else record


class Cells:
    """Answers as cells of a table: the texts, what is kept of the row, NAME.label, NAME.score, … for each output,
    token_count, truncated, error."""

    def __init__(self, tasks: Sequence[Task], texts: Sequence[str], keep: Sequence[str], top: int | None) -> None:
        """`texts`: the columns of the texts. Raises InputError if a column to keep has the name of another."""
        self.tasks, self.texts, self.top = tasks, texts, top
        self.carried = list(dict.fromkeys((*texts, *keep)))
        answered: dict[str, type | None] = {
            f"{task.name}.{column}": kind
            for task in tasks
            for column, kind in {**task.columns(top), **({"known": bool} if task.tells_known else {})}.items()
        }
        answered |= {"token_count": int, "truncated": bool, "error": str}
        if twice := [name for name in self.carried if name in answered]:
            raise InputError(
                f"Column {twice[0]!r} cannot be kept, since the answers have one of that name; rename it, or write "
                f"JSON lines (.jsonl)."
            )
        self.columns = {**{name: str if name in texts else None for name in self.carried}, **answered}
        """What its rows consist of."""

    def answered(self, row: GivenRow, answer: dict[str, Any]) -> dict[str, Any]:
        """See `Form`."""
        record = row.kept(self.carried) | dict(zip(self.texts, row.texts, strict=True))
        record |= {"token_count": answer["tokens"], "truncated": answer["truncated"]}
        for task in self.tasks:
            found = answer["outputs"][task.name]
            cells = task.cells(found, self.top) | {key: found[key] for key in ("known",) if key in found}
            record |= {f"{task.name}.{column}": cell for column, cell in cells.items()}
        return record

    def failed(self, row: GivenRow) -> dict[str, Any]:
        """See `Form`."""
        cells = row.kept(self.carried)
        return cells | {name: written(cells[name]) for name in self.texts} | {"error": row.error}
