"""Static vectors of word pieces made from an encoder (`model2vec`), averaged, and a logistic regression."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from bothways.baselines.base import Baseline, joined
from bothways.baselines.frozen import standardized_regression
from bothways.baselines.parts import probabilities_of, read_part, write_part
from bothways.errors import InputError


class StaticVectors(Baseline):
    """A model2vec directory and a scikit-learn classifier on the vectors that it gives texts."""

    def __init__(self, directory: str | os.PathLike, classifier: Any = None) -> None:
        """`directory`: of a model that `model2vec` has saved. `classifier`: None: logistic regression."""
        self.directory = directory
        self.classifier = classifier

    def _learn(self, texts: list[str], pairs: list[str] | None, targets: np.ndarray) -> None:
        self.static_ = read_static(self.directory)
        self.classifier_ = standardized_regression() if self.classifier is None else clone(self.classifier)
        self.classifier_.fit(self._features(texts, pairs), targets)

    def _features(self, texts: list[str], pairs: list[str] | None) -> np.ndarray:
        """(texts, width) float32."""
        found = self.static_.encode(joined(texts, pairs), max_length=None, use_multiprocessing=False)
        return np.asarray(found, np.float32)

    def _probabilities(self, texts: list[str], pairs: list[str] | None) -> np.ndarray:
        return probabilities_of(self.classifier_, self._features(texts, pairs))

    def _write(self, directory: Path) -> None:
        self.static_.save_pretrained(directory / "static")
        write_part(self.classifier_, directory / "classifier.skops")

    def _read(self, directory: Path) -> None:
        self.static_ = read_static(directory / "static")
        self.classifier_ = read_part(directory / "classifier.skops")


def read_static(directory: str | os.PathLike) -> Any:
    """The model in a directory, never from a hub. Raises InputError if there is none or model2vec is not installed."""
    try:
        from model2vec import StaticModel
    except ImportError:
        raise InputError("Static vectors need model2vec; install it with pip install 'bothways[compare]'.") from None
    path = Path(directory)
    missing = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path}: there is no {missing[0]} here; name a directory that model2vec has saved.")
    try:
        return StaticModel.from_pretrained(path)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: model2vec cannot read this ({error}); fetch or distil it again.") from None
