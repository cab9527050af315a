"""What every estimator of this package is given: texts or pairs of texts and their labels, checked in one place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from bothways.errors import InputError
from bothways.tasks.task import alike
from bothways.tokenizer import Text

LABEL_TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda label: label == "True",
}
"""A type of labels → how to read one that was written as text."""


class TextEstimator(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier of texts; what is here follows from its probabilities."""

    classes_: np.ndarray
    """(classes,): the labels as they were given, in order."""

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probability of each class, in the order of `classes_`. (texts,) → (texts, classes) float32."""
        raise NotImplementedError

    def predict(self, X: Sequence[Text]) -> np.ndarray:
        """The likeliest class of each text, as it was given to `fit`. (texts,) → (texts,)"""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(-1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        return tags


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels, checked."""

    texts: list[Text]
    pairs: list[Text] | None
    """The second texts of pairs; None: the texts are single."""
    labels: list[Any]
    """One for each text, of one type."""
    classes: list[Any]
    """The labels that there are, in order."""

    @property
    def label_type(self) -> str:
        """The name of the labels' type, one of `LABEL_TYPES`."""
        return type(self.classes[0]).__name__


def labelled(X: Iterable[Text], y: Any, *, stacklevel: int = 3) -> Labelled:
    """What the user gave to `fit`. Warns of labels that look alike.

    Raises InputError if texts and labels differ in number, one is missing or there is one class only.
    """
    texts, pairs = separate(X)
    labels = separate_labels(y)
    if len(texts) != len(labels):
        raise InputError(f"There are {len(texts)} texts but {len(labels)} labels; give one label each.")
    classes = sorted(set(labels))
    for group in alike(map(str, classes)):
        warnings.warn(f"Are the labels {', '.join(map(repr, group))} meant to be the same?", stacklevel=stacklevel)
    if len(classes) < 2:
        raise InputError("All texts have the same label; there is nothing to tell apart.")
    return Labelled(texts, pairs, labels, classes)


def separate(texts: Iterable[Text]) -> tuple[list[Text], list[Text] | None]:
    """Texts, or pairs of texts, as given by the user → (first texts, second texts or None).

    Raises InputError for what is no list of texts, and for what iterates over something else.
    """
    if isinstance(texts, str):
        raise InputError("Give a list of texts; for one text, a list with it alone.")
    if isinstance(texts, (Mapping, Set)) or hasattr(texts, "columns"):
        kind = type(texts).__name__
        raise InputError(f"A {kind} is no list of texts, since it would give its names or no order; give one column.")
    if not isinstance(texts, Iterable):
        raise InputError(f"{texts!r} is no list of texts; give one.")
    given = list(texts)
    for index, text in enumerate(given, start=1):
        paired = isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(t, str) for t in text)
        if not isinstance(text, str) and not paired:
            raise InputError(f"Text {index} is {text!r}; give a string, or a pair of strings.")
        if paired != isinstance(given[0], (tuple, list)):
            raise InputError(f"Text {index} is {'a pair' if paired else 'no pair'}, unlike the first; give one kind.")
    if given and not isinstance(given[0], str):
        return [first for first, _ in given], [second for _, second in given]
    return given, None


def separate_labels(y: Any) -> list[Any]:
    """Labels as given by the user, a list, an array, or one column of a frame → Python values of one type.

    Raises InputError for a missing label (None, NaN or an empty string), and for labels of several types or none that
    a model directory can keep.
    """
    if y is None or isinstance(y, (str, bytes, Mapping, Set)) or not hasattr(y, "__len__"):
        raise InputError(f"{y!r} is no list of labels; give one label for each text.")
    shape: tuple[int, ...] = getattr(y, "shape", (len(y),))
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise InputError(f"The labels have the shape {tuple(shape)}; give one column, one label for each text.")
    given = np.empty(len(y), object)
    given[:] = list(y.iloc[:, 0] if len(shape) == 2 and hasattr(y, "iloc") else y)
    labels = [alone(label) for label in given]
    for number, label in enumerate(labels, start=1):
        if label is None or label == "" or label != label:  # as NaN is
            raise InputError(f"Label {number} is missing; give one for each text, or leave the text out.")
        if type(label).__name__ not in LABEL_TYPES:
            raise InputError(
                f"Label {number} is {label!r}; give one label for each text in one column, each a string, a number or "
                f"a boolean."
            )
    types = sorted({type(label).__name__ for label in labels})
    if len(types) > 1:
        raise InputError(f"The labels are of several types ({', '.join(types)}); give all of one type.")
    return labels


def alone(label: Any) -> Any:
    """A label as a Python value; one that stands alone in a row is taken out of it, pandas' missing ones are None."""
    if isinstance(label, (list, tuple, np.ndarray)) and np.shape(label) == (1,):
        label = label[0]
    if type(label).__name__ in ("NAType", "NaTType"):
        return None
    return label.item() if isinstance(label, np.generic) else label
