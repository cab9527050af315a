"""The methods that can take part, by the names that `--methods` knows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from bothways.baselines.methods import METHODS, Method, Options
from bothways.comparison.measure import Contender
from bothways.evaluation.page import Words

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


def contenders(options: Options = Options()) -> dict[str, Contender]:
    """By name. `options`: what they start from; the seed is that of each run."""
    return {
        name: Contender(
            name,
            TITLES.get(name) or Words(name, name),
            partial(made, method, options),
            about=Words(method.english, method.chinese),
            extra=method.extra,
            unasked=name != "static_vectors" or options.static_vectors is not None,
        )
        for name, method in METHODS.items()
    }


def made(method: Method, options: Options, seed: int) -> Any:
    """An estimator that has learned nothing yet."""
    return method.make(replace(options, seed=seed, verbose=True))
