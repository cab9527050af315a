"""What all baselines have in common: the checks, the classes, the files of a saved one.

    fit(X, y) ─▶ _learn(texts, pairs, targets)          save(path) ─▶ baseline.json + _write(directory)
    predict_proba(X) ─▶ _probabilities(texts, pairs)    load(path) ─▶ baseline.json + _read(directory)

A method brings the four on the right; labels are whole numbers to it, the places of `classes_`.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from bothways.errors import InputError
from bothways.estimator import LABEL_TYPES, TextEstimator, labelled, separate
from bothways.files.json_object import read_json_object
from bothways.files.writing import new_directory
from bothways.formats.reading import BASELINE
from bothways.tokenizer import Text

SEPARATOR = " ‖ "
"""Between the texts of a pair, for methods that know no segments."""
Method = TypeVar("Method", bound="Baseline")


class Baseline(TextEstimator, ABC):
    """Sorts texts (or pairs of texts) into classes; the contract is that of `TextClassifier`."""

    def fit(self: Method, X: Sequence[Text], y: Sequence[Any]) -> Method:
        """Learn from texts (or pairs of texts, as tuples) and their labels (strings, numbers or booleans, of one type).

        Raises InputError if texts and labels differ in number, one is missing or there is one class only.
        """
        given = labelled(X, y)
        place = {label: index for index, label in enumerate(given.classes)}
        self._learn(given.texts, given.pairs, np.array([place[label] for label in given.labels]))
        self.classes_ = np.array(given.classes)
        self._pairs, self._label_type = given.pairs is not None, given.label_type
        return self

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probability of each class, in the order of `classes_`. (texts,) → (texts, classes) float32.

        Raises InputError for pairs where it has learned from single texts, and the reverse.
        """
        self._require_fitted()
        texts, pairs = separate(X)
        if not texts:
            return np.zeros((0, len(self.classes_)), np.float32)
        if (pairs is not None) != self._pairs:
            kinds = ("pairs of texts", "single texts") if self._pairs else ("single texts", "pairs of texts")
            raise InputError(f"This {type(self).__name__} reads {kinds[0]}, not {kinds[1]}; give what it learned from.")
        return self._probabilities(texts, pairs).astype(np.float32, copy=False)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write a directory that `load` can read; never a pickle.

        Raises InputError if `path` exists and `overwrite` is not set, or if a part cannot be written.
        """
        self._require_fitted()
        plain = (str, int, float, bool, type(None), os.PathLike)
        settings = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in self.get_params(deep=False).items()
            if isinstance(value, plain)  # others are parts: what is `part` was fitted as `part_`
        }
        description = {
            "format": 1,
            "method": type(self).__name__,
            "settings": settings,
            "labels": list(map(str, self.classes_.tolist())),
            "label_type": self._label_type,
            "pairs": self._pairs,
        }
        with new_directory(path, overwrite) as directory:
            text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
            (directory / BASELINE).write_text(text, "utf-8")
            self._write(directory)

    @classmethod
    def load(cls: type[Method], path: str | os.PathLike) -> Method:
        """Read a directory that `save` has written; labels come back as what `fit` was given.

        Raises InputError, naming the file, if one is missing, damaged or of another method.
        """
        directory = Path(path)
        about = directory / BASELINE
        described = read_description(directory)
        if described.get("method") != cls.__name__:
            raise InputError(
                f"{about}: the method is {described.get('method')!r}, not {cls.__name__!r}; load it as that."
            )
        try:
            method = cls(**described["settings"])
            read = LABEL_TYPES[described["label_type"]]
            method.classes_ = np.array([read(label) for label in described["labels"]])
            method._pairs, method._label_type = described["pairs"], described["label_type"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{about}: an entry is missing or not understood ({error}); save the method again."
            ) from None
        try:
            method._read(directory)
        except FileNotFoundError as error:
            raise InputError(f"{error.filename}: there is no such file; restore it or save the method again.") from None
        for part in set(method.get_params(deep=False)) - set(described["settings"]):
            setattr(method, part, clone(getattr(method, f"{part}_")))
        return method

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def _require_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            raise NotFittedError(f"This {type(self).__name__} has not learned anything yet; call fit or load first.")

    @abstractmethod
    def _learn(self, texts: list[Any], pairs: list[Any] | None, targets: np.ndarray) -> None:
        """Learn from texts, the second ones of pairs, and (texts,) int64, each at least once."""

    @abstractmethod
    def _probabilities(self, texts: list[Any], pairs: list[Any] | None) -> np.ndarray:
        """(texts, classes) for at least one text."""

    @abstractmethod
    def _write(self, directory: Path) -> None:
        """Put what was learned into files."""

    @abstractmethod
    def _read(self, directory: Path) -> None:
        """Have what was learned back from them."""


def read_description(directory: Path) -> dict[str, Any]:
    """What a saved baseline says of itself. Raises InputError if it is not there."""
    try:
        return read_json_object(directory / BASELINE)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{directory}: there is no {BASELINE} here; name a directory that was saved.") from None


def joined(texts: list[str], pairs: list[str] | None) -> list[str]:
    """The texts of a pair as one, for methods that know no segments."""
    if pairs is None:
        return texts
    return [first + SEPARATOR + second for first, second in zip(texts, pairs, strict=True)]
