"""What every kind of output answers for; the files beside this one have a class each."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Predictions, Reads
from bothways.errors import InputError
from bothways.model.config import OutputConfig, OutputKind
from bothways.model.outputs import OutputLayer
from bothways.tokenizer import Encoding, Text

Value = Any
"""What a cell says: str (single), list of str (multi, tags), float (regression); None where it says nothing."""
Target = Any
"""A value as the number or array that a loss wants; `UNLABELLED`, NaN or None where a row says nothing."""
Decision = Any
"""What a model decides about a text, in the form of its target."""


class Task(ABC):
    """One kind of output. Its class knows cells of a table; an instance belongs to an output layer and its labels."""

    kind: ClassVar[OutputKind]
    reads: ClassVar[Reads] = "first"
    """What its layer reads, unless told otherwise."""
    pretokenized: ClassVar[bool] = False
    """Whether texts come as words, because each word has a label of its own."""
    names_labels: ClassVar[bool] = True
    """Whether its values name labels, rather than being numbers."""
    least_labels: ClassVar[int] = 2
    """With fewer there is nothing to tell apart."""

    def __init__(self, output: OutputConfig) -> None:
        self.output = output

    @property
    def name(self) -> str:
        """The name of the output layer."""
        return self.output.name

    # ── Cell → value → target ───────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def says_nothing(cls, cell: Any, *, optional: bool) -> bool:
        """Whether a cell has no value. `optional`: the table has other outputs, so that a row need not have each."""
        return cell is None or cell == ""

    @classmethod
    @abstractmethod
    def value(cls, cell: Any, *, text: Text, column: str, place: str) -> Value:
        """What a cell says of `text`. Raises InputError, naming `place` and `column`, if it cannot be used."""

    @classmethod
    def labels_in(cls, value: Value) -> Iterable[str]:
        """The labels that a value names."""
        return value

    @classmethod
    def same(cls, one: Value, other: Value) -> bool:
        """Whether two values say the same."""
        return one == other

    @classmethod
    def learn(cls, name: str, column: str, values: Sequence[Value], source: str) -> OutputConfig:
        """The output layer that the values of a training table ask for, its labels taken from them and nowhere else.

        Raises InputError if there are too few classes.
        """
        labels = {label for value in values if value is not None for label in cls.labels_in(value)}
        if len(labels) < cls.least_labels:
            only = f"the one class {next(iter(labels))!r}" if labels else "no label"
            raise InputError(
                f"{source}: column {column!r} holds only {only}; there is nothing to tell apart, add rows of another "
                f"class."
            )
        return OutputConfig(name=name, kind=cls.kind, labels=tuple(in_order(labels)), reads=cls.reads, column=column)

    def targets(self, values: Sequence[Value], rows: Sequence[str], source: str) -> list[Target]:
        """The targets of some rows. `rows`: where each stands in `source`.

        Raises InputError for a label that training did not see.
        """
        ids = {label: index for index, label in enumerate(self.output.labels)}
        targets = []
        for value, row in zip(values, rows, strict=True):
            try:
                targets.append(self.target(value, ids))
            except KeyError as unknown:
                raise InputError(
                    f"{source}, {row}: the label {unknown.args[0]!r} of output {self.name!r} does not occur in the "
                    f"training table, which has {shown(self.output.labels)}; correct it or train with it."
                ) from None
        return targets

    @abstractmethod
    def target(self, value: Value, ids: dict[str, int]) -> Target:
        """A value as the loss wants it. KeyError for a label that is not in `ids`."""

    @abstractmethod
    def labelled(self, target: Target) -> bool:
        """Whether a target says something."""

    @abstractmethod
    def tensor(self, targets: Sequence[Target], encodings: Sequence[Encoding]) -> Tensor:
        """The targets of the texts of a batch in the shape that the output layer's loss wants (`model.outputs`)."""

    def standardize(self, targets: Sequence[Target]) -> tuple[Sequence[Target], Callable[[OutputLayer], None]]:
        """Targets that are easy to learn, and what to do to the trained layer so that it gives them as they were."""
        return targets, lambda layer: None

    # ── Logits → probabilities → decision → answer ──────────────────────────────────────────────────────────────────

    @abstractmethod
    def probabilities(self, predictions: Predictions) -> np.ndarray | list[np.ndarray]:
        """The logits of this output as what is shown to people, (texts, width) float32 or one array a text."""

    @abstractmethod
    def decide(self, probabilities: np.ndarray) -> Decision:
        """The decision about one text: (width,) → what `target` gives."""

    @abstractmethod
    def answer(self, probabilities: np.ndarray, text: Text) -> dict[str, Any]:
        """What is said of one text, as JSON."""

    # ── What it tells of labels ─────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    @abstractmethod
    def written(cls, value: Value) -> str:
        """A value as a cell of a table has it."""

    @abstractmethod
    def decided(self, decision: Decision) -> Value:
        """A decision as the value that a table would have."""

    def linear_model(self, C: float) -> Any:
        """A scikit-learn classifier of vectors, not fitted, whose probabilities have the form of `probabilities`. `C`:
        how freely it may follow the rows, as scikit-learn has it.

        Raises InputError if this kind has none.
        """
        raise InputError(
            f"Output {self.name!r} ({self.kind}) cannot be learned by a linear model of whole texts; give a trained "
            f"model (--model), or name outputs of another kind alone (--output)."
        )

    def label_errors(
        self, targets: Sequence[Target], probabilities: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """How sure it is that each target is right, and which are probably wrong (confident learning, arXiv
        1911.00068, by cleanlab). All targets say something.

        → (rows,) float, 0 to 1; (rows,) bool. Raises InputError if this kind is not looked at.
        """
        raise InputError(
            f"Output {self.name!r} ({self.kind}) has no labels that could be wrong; name another (--output)."
        )

    def uncertainty(self, probabilities: np.ndarray) -> float:
        """How little a model knows about one text, 0 to 1: how little the best answer is ahead of the next best, the
        mean over its decisions; 0 where nothing is decided."""
        return 0.0

    # ── How good it is ──────────────────────────────────────────────────────────────────────────────────────────────

    def metrics(self, expected: Sequence[Target], predicted: Sequence[Decision]) -> dict[str, Any]:
        """The metrics that the field quotes for this kind, over the rows that say something; "examples" counts them."""
        pairs = [(e, p) for e, p in zip(expected, predicted, strict=True) if self.labelled(e)]
        if not pairs:
            return {"examples": 0}
        measured = self.measure(*map(list, zip(*pairs, strict=True)))
        return {
            "examples": len(pairs),
            **{name: value if isinstance(value, int) else float(value) for name, value in measured.items()},
        }

    @abstractmethod
    def measure(self, expected: list[Target], predicted: list[Decision]) -> dict[str, Any]:
        """The metrics of one decision or more, all of texts whose target says something."""


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels in the order people expect: numbers by value, everything else by alphabet."""
    labels = list(labels)
    if all(re.fullmatch(r"-?\d+", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Labels that a person may have meant to be the same: they differ only in spaces at their ends, in capitals, in the
    form of their characters (Unicode's NFKC), or in how a number is written. Each group in the order given."""
    groups: dict[str | float, list[str]] = {}
    for label in labels:
        plain = unicodedata.normalize("NFKC", label).strip().casefold()
        number = re.fullmatch(r"[+-]?\d{1,15}(\.\d*)?", plain)
        groups.setdefault(float(plain) if number else plain, []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def shown(labels: Sequence[str], most: int = 10) -> str:
    """Some labels in a sentence, not all of a thousand."""
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    return ", ".join(map(repr, labels[:most])) + more


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """(…, classes) → the same as probabilities, in float32."""
    return torch.softmax(torch.from_numpy(logits) / temperature, dim=-1).numpy()


def closeness(probabilities: np.ndarray) -> np.ndarray:
    """How close the second of the classes is to the first: 1 − margin. (…, classes) → (…,)"""
    second, first = np.moveaxis(np.sort(probabilities, axis=-1)[..., -2:], -1, 0)
    return 1 - (first - second)


def rounded(value: float) -> float:
    """Six digits: more than a score deserves, few enough to read."""
    return round(float(value), 6)
