"""What every kind of output answers for; the files beside this one have a class each."""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Predictions, Reads
from bothways.errors import InputError
from bothways.model.config import OutputConfig, OutputKind
from bothways.model.outputs import OutputLayer
from bothways.tasks.evidence import Explainable
from bothways.tasks.statistics import Statistics, Sums
from bothways.tokenizer import Encoding, Text

Value = Any
"""What a cell says: str (single), list of str (multi, tags), float (regression); None where it says nothing."""
Target = Any
"""A value as the number or array that a loss wants; `UNLABELLED`, NaN or None where a row says nothing."""
Decision = Any
"""What a model decides about a text, in the form of its target."""


class Task(Explainable):
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
    exclusive: ClassVar[bool] = False
    """Whether each text has exactly one label, so that it matters that a text may be of none."""
    weighs_classes: ClassVar[bool] = False
    """Whether classes of unequal size have weights, unless told otherwise."""
    chosen_by: ClassVar[tuple[str, ...]]
    """The metric by which one model is preferred to another, 1 at best: the first of these that was measured."""

    shares_of_rows: ClassVar[tuple[str, ...]] = ()
    """Metrics that say for which share of the rows something holds."""

    def __init__(self, output: OutputConfig, detector: OutputConfig | None = None) -> None:
        """`detector`: the output layer that tells how far texts are from its classes, if there is one."""
        self.output, self.detector = output, detector

    @property
    def name(self) -> str:
        """The name of the output layer."""
        return self.output.name

    @property
    def layers(self) -> tuple[OutputConfig, ...]:
        """The output layers whose logits it needs."""
        return (self.output,) if self.detector is None else (self.output, self.detector)

    # ── Cell → value → target ───────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def says_nothing(cls, cell: Any, *, optional: bool) -> bool:
        """Whether a cell has no value: it is empty, but for spaces. `optional`: the table has other outputs, so that a
        row need not have each."""
        return cell is None or (isinstance(cell, str) and not cell.strip())

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

    def label_counts(self, targets: Sequence[Target]) -> np.ndarray:
        """(labels,) int64: how often each label is in some targets; nothing for an output without labels."""
        return np.zeros(0, np.int64)

    def class_weights(self, targets: Sequence[Target], power: float) -> tuple[float, ...]:
        """A factor on the loss of each class, the greater the rarer it is in `targets`: (rows / (classes × rows of the
        class)) ^ power, so with a power of 1 scikit-learn's "balanced", where all classes weigh the same.

        Their mean over the targets is 1, so that a loss is of the size it was, and an update may divide by its number
        of targets: dividing by the sum of their weights, as PyTorch's mean does, a rare row would count less if it is
        among others of its class. Empty for an output without classes.
        """
        counts = self.label_counts(targets)
        if not counts.sum():
            return ()
        weights = np.where(counts, (counts.sum() / len(counts) / np.maximum(counts, 1)) ** power, 1.0)
        return tuple(map(float, weights * counts.sum() / (weights * counts).sum()))

    # ── Logits → probabilities → decision → answer ──────────────────────────────────────────────────────────────────

    @abstractmethod
    def probabilities(self, predictions: Predictions) -> np.ndarray | list[np.ndarray]:
        """The logits of this output as what is shown to people, (texts, width) float32 or one array a text."""

    @abstractmethod
    def decide(self, probabilities: np.ndarray) -> Decision:
        """The decision about one text: (width,) → what `target` gives."""

    @property
    def tells_known(self) -> bool:
        """Whether it can tell that a text is of none of the classes."""
        return self.detector is not None and self.detector.distance_threshold is not None

    def known(self, predictions: Predictions) -> np.ndarray | None:
        """(texts,) bool: whether a text is of any of the classes at all; None if that cannot be told."""
        if self.detector is None or self.detector.distance_threshold is None:
            return None
        return predictions.logits[self.detector.name][:, 0] <= self.detector.distance_threshold

    def calibrated(self, predictions: Predictions, targets: Sequence[Target]) -> OutputConfig:
        """The output layer with scores that mean what they say, from predictions of rows that training has not seen."""
        return self.output

    def with_sets(self, predictions: Predictions, targets: Sequence[Target], coverage: float) -> OutputConfig:
        """The output layer with prediction sets, if its kind has them."""
        return self.output

    @abstractmethod
    def answer(self, probabilities: np.ndarray, text: Text, top: int | None = None) -> dict[str, Any]:
        """What is said of one text, as JSON. `top`: scores of so many labels, the likeliest first; None: of all."""

    @abstractmethod
    def columns(self, top: int | None = None) -> dict[str, type]:
        """The columns of a table that has its answers, and what their cells are."""

    @abstractmethod
    def cells(self, answer: dict[str, Any], top: int | None = None) -> dict[str, Any]:
        """An answer as cells of these columns."""

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

    def agreement(self, target: Target, probabilities: np.ndarray) -> tuple[int, int]:
        """How many labels of one text, whose target says something, a model would give as they are, and of how many
        that it was asked about."""
        return int(target == self.decide(probabilities)), 1

    def uncertainty(self, probabilities: np.ndarray) -> float:
        """How little a model knows about one text, 0 to 1: how little the best answer is ahead of the next best, the
        mean over its decisions; 0 where nothing is decided."""
        return 0.0

    # ── How good it is ──────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def statistics(self, expected: list[Target], probabilities: Sequence[np.ndarray]) -> Statistics:
        """Of each of some rows what its metrics are counted from; all rows say something (`tasks.statistics`)."""

    def goodness(self, metrics: Mapping[str, Any]) -> float:
        """The metric by which models are chosen, out of what `metrics` gave; 0 if nothing was measured."""
        return next((float(metrics[name]) for name in self.chosen_by if name in metrics), 0.0)

    def collapsed(self, expected: Sequence[Target], predicted: Sequence[Decision]) -> bool:
        """Whether training has failed so far that every text gets one answer where several are right."""
        return False

    @abstractmethod
    def metrics(self, sums: Sums) -> dict[str, float]:
        """The metrics that the field quotes for this kind, from the sums of statistics over rows."""

    def details(self, sums: Sums) -> dict[str, Any]:
        """What else is worth knowing, as JSON, from the same sums."""
        return {}

    def pairs(self, expected: list[Target], probabilities: Sequence[np.ndarray]) -> np.ndarray | None:
        """(rows, 2): what is expected and predicted, where a metric needs to see rows side by side."""
        return None

    def metrics_of_pairs(self, pairs: np.ndarray) -> dict[str, float]:
        """Metrics of `pairs` of all rows, or of a sample of them."""
        return {}


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
