"""A pre-trained encoder as it is, and a logistic regression on what it says: no fine-tuning."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from bothways.baselines.base import Baseline
from bothways.baselines.parts import probabilities_of, read_part, write_part
from bothways.classifier import warn_if_truncated
from bothways.formats.hub import AUTO, locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.tokenizer import Tokenizer


class FrozenEncoder(Baseline):
    """The mean of a text's tokens in the last layer, each feature standardized, and a scikit-learn classifier."""

    def __init__(
        self, encoder: str | os.PathLike = AUTO, classifier: Any = None, *, max_length: int | None = None
    ) -> None:
        """`encoder`: as in `TextClassifier`. `classifier`: None: logistic regression. `max_length`: texts are truncated
        to this many tokens; None: to the encoder's longest."""
        self.encoder = encoder
        self.classifier = classifier
        self.max_length = max_length

    def _learn(self, texts: list[Any], pairs: list[Any] | None, targets: np.ndarray) -> None:
        bert, tokenizer, _ = load_model(locate(self.encoder, texts))
        columns = ("text",) if pairs is None else ("text", "text_pair")
        bert.config = replace(bert.config, text_columns=columns, max_length=self.max_length or bert.config.max_length)
        self._use(bert, tokenizer)
        self.classifier_ = standardized_regression() if self.classifier is None else clone(self.classifier)
        self.classifier_.fit(self._features(texts, pairs), targets)

    def _probabilities(self, texts: list[Any], pairs: list[Any] | None) -> np.ndarray:
        return probabilities_of(self.classifier_, self._features(texts, pairs))

    def _use(self, bert: Bert, tokenizer: Tokenizer) -> None:
        bert.attach()  # what an earlier training has put on top is not read
        self.bert_, self.tokenizer_, self.engine_ = bert, tokenizer, Engine(bert, tokenizer)

    def _features(self, texts: list[Any], pairs: list[Any] | None) -> np.ndarray:
        """(texts, hidden) float32."""
        encodings = self.engine_.encode(texts, pairs)
        longest = self.bert_.config.longest_text
        warn_if_truncated(sum(encoding.dropped > 0 for encoding in encodings), len(encodings), longest)
        return self.engine_.represent(encodings)

    def _write(self, directory: Path) -> None:
        save_model(directory / "encoder", self.bert_, self.tokenizer_)
        write_part(self.classifier_, directory / "classifier.skops")

    def _read(self, directory: Path) -> None:
        self._use(*load_model(directory / "encoder")[:2])
        self.classifier_ = read_part(directory / "classifier.skops")


def standardized_regression() -> Any:
    """Logistic regression of features that are few and dense."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
