"""TF-IDF + linear SVM: the method to beat, with the same contract as `TextClassifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from bothways.language import mostly_chinese


class BagOfWords(ClassifierMixin, BaseEstimator):
    """Words and neighbours, characters and their neighbours, weighed by rarity; a linear SVM on top.

    Latin text: words 1–2 and characters 1–4 within words; Chinese text: characters 1–3, for it has no spaces.
    """

    def __init__(self, penalty: float = 0.5) -> None:
        """`penalty`: C of the SVM."""
        self.penalty = penalty

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> BagOfWords:
        """Learn from texts and their labels."""
        texts = list(X)
        if mostly_chinese(texts):
            features = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
        else:
            features = make_union(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2),
            )
        self.pipeline_ = make_pipeline(features, LinearSVC(C=self.penalty)).fit(texts, y)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """The class of each text. (texts,) → (texts,)"""
        return self.pipeline_.predict(list(X))
