"""The mean of a text's word vectors and a linear classifier: word2vec and GloVe as methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from bothways.baselines.base import Baseline, joined
from bothways.baselines.parts import probabilities_of, read_part, write_part
from bothways.baselines.vectors import Word2Vec, WordVectors, mean_vectors, read_vectors
from bothways.baselines.words import words_of


class MeanOfWordVectors(Baseline):
    """Word vectors, the mean of those of a text weighted by how rare its words are, and a scikit-learn classifier."""

    def __init__(self, vectors: WordVectors | None = None, classifier: Any = None) -> None:
        """`vectors`: None: word2vec learned from the texts. `classifier`: None: a linear SVM."""
        self.vectors = vectors
        self.classifier = classifier

    def _learn(self, texts: list[str], pairs: list[str] | None, targets: np.ndarray) -> None:
        words = [words_of(text) for text in joined(texts, pairs)]
        self.vectors_ = clone(Word2Vec() if self.vectors is None else self.vectors).fit(words)
        self.weights_ = rarity(words, self.vectors_.words_)
        self.classifier_ = default_classifier() if self.classifier is None else clone(self.classifier)
        self.classifier_.fit(mean_vectors(words, self.vectors_, self.weights_), targets)

    def _probabilities(self, texts: list[str], pairs: list[str] | None) -> np.ndarray:
        words = [words_of(text) for text in joined(texts, pairs)]
        return probabilities_of(self.classifier_, mean_vectors(words, self.vectors_, self.weights_))

    def _write(self, directory: Path) -> None:
        self.vectors_.write(directory)
        write_part(self.classifier_, directory / "classifier.skops")
        write_part(self.weights_, directory / "weights.skops")

    def _read(self, directory: Path) -> None:
        self.vectors_ = read_vectors(directory)
        self.classifier_ = read_part(directory / "classifier.skops")
        self.weights_ = read_part(directory / "weights.skops")


def default_classifier() -> Any:
    """A linear SVM for features that are few and dense."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=10.0, dual=False, random_state=0)


def rarity(texts: list[list[str]], words: list[str]) -> np.ndarray:
    """The inverse document frequency of words, as scikit-learn has it: (words,) float32."""
    number = {word: index for index, word in enumerate(words)}
    counts = np.zeros(len(words))
    for text in texts:
        counts[[number[word] for word in set(text) if word in number]] += 1
    return (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)
