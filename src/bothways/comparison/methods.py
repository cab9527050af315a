"""The methods that can take part, by the names that `--methods` knows."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from bothways.baselines.methods import METHODS, Method, Options
from bothways.comparison.measure import Contender
from bothways.evaluation.page import Words
from bothways.formats.hub import AUTO

TITLES = {
    "majority": Words("majority class", "多数类"),
    "svm": Words("TF-IDF + SVM", "TF-IDF + SVM"),
    "logistic_regression": Words("TF-IDF + logistic regression", "TF-IDF + 逻辑回归"),
    "random_forest": Words("TF-IDF + random forest", "TF-IDF + 随机森林"),
    "word2vec": Words("word2vec + SVM", "word2vec + SVM"),
    "glove": Words("GloVe + SVM", "GloVe + SVM"),
    "rnn": Words("RNN", "RNN"),
    "lstm": Words("LSTM", "LSTM"),
    "static_vectors": Words("static vectors + logistic regression", "静态词向量 + 逻辑回归"),
    "untrained": Words("BERT without pre-training", "未预训练的 BERT"),
    "frozen": Words("frozen BERT + logistic regression", "冻结的 BERT + 逻辑回归"),
    "bert": Words("fine-tuned BERT", "微调的 BERT"),
}
"""Names that fit into a table and a sentence; a method without one goes by its own."""


def contenders(encoder: str | os.PathLike = AUTO) -> dict[str, Contender]:
    """By name. `encoder`: what BERT starts from."""
    return {
        name: Contender(
            name,
            TITLES.get(name) or Words(name, name),
            partial(made, method, encoder),
            about=Words(method.english, method.chinese),
            extra=method.extra,
        )
        for name, method in METHODS.items()
    }


def made(method: Method, encoder: str | os.PathLike, seed: int) -> Any:
    """An estimator that has learned nothing yet."""
    return method.make(Options(encoder=encoder, seed=seed, verbose=True))
