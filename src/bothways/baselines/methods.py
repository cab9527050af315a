"""All methods that classify, by name: for people to choose from, and for `compare` to set beside each other.

    METHODS["svm"].make(Options(seed=1)).fit(texts, labels).predict(texts)

Importing this file imports no library of a method; making one does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may say of all methods at once; each takes what it knows."""

    encoder: str | os.PathLike = AUTO
    """bert, frozen, untrained: a directory, a shipped encoder or a hub id. `auto`: the shipped one for the language."""
    word_vectors: str | os.PathLike | None = None
    """glove, rnn, lstm: a file of published vectors. None: learned from the training texts."""
    static_vectors: str | os.PathLike | None = None
    """static_vectors: a directory that `model2vec` has saved."""
    seed: int = 0
    """Decides fresh weights, order and whatever else is left to chance."""
    verbose: bool = False
    """Progress on standard error."""


@dataclass(frozen=True)
class Method:
    """A method as people see it, and how to get an estimator that has learned nothing yet."""

    english: str
    """What it is, in a line."""
    chinese: str
    """The same in Chinese."""
    make: Callable[[Options], Any]
    """The estimator: `fit(X, y)`, `predict(X)`, `predict_proba(X)`, `classes_`, `save(path)`, and `load(path)` of its
    class. Raises InputError if an extra or an option that it needs is missing."""
    extra: str = ""
    """The extra to install, as in pip install 'bothways[compare]'; empty: none."""


def majority(options: Options) -> Any:
    from bothways.baselines.majority import Majority

    return Majority()


def svm(options: Options) -> Any:
    from bothways.baselines.bag_of_words import BagOfWords

    return BagOfWords()


def logistic_regression(options: Options) -> Any:
    from sklearn.linear_model import LogisticRegression

    from bothways.baselines.bag_of_words import BagOfWords

    return BagOfWords(classifier=LogisticRegression(C=10.0, max_iter=200))


def random_forest(options: Options) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    from bothways.baselines.bag_of_words import BagOfWords, tfidf_of_pieces

    forest = RandomForestClassifier(200, min_samples_leaf=2, n_jobs=-1, random_state=options.seed)
    return BagOfWords(tfidf_of_pieces(most=20_000), forest)


def word2vec(options: Options) -> Any:
    from bothways.baselines.vectors import Word2Vec
    from bothways.baselines.word_vectors import MeanOfWordVectors

    return MeanOfWordVectors(Word2Vec(seed=options.seed))


def glove(options: Options) -> Any:
    from bothways.baselines.vectors import GloVe
    from bothways.baselines.word_vectors import MeanOfWordVectors

    return MeanOfWordVectors(published(options) or GloVe(seed=options.seed))


def published(options: Options) -> Any:
    """Vectors from a file, if one is given."""
    from bothways.baselines.vectors import PublishedVectors

    return None if options.word_vectors is None else PublishedVectors(os.fspath(options.word_vectors))


def rnn(options: Options) -> Any:
    from bothways.baselines.recurrent import RNN

    return RNN(published(options), seed=options.seed, verbose=options.verbose)


def lstm(options: Options) -> Any:
    from bothways.baselines.recurrent import LSTM

    return LSTM(published(options), seed=options.seed, verbose=options.verbose)


def static_vectors(options: Options) -> Any:
    from bothways.baselines.static_vectors import StaticVectors
    from bothways.errors import InputError

    if options.static_vectors is None:
        raise InputError("The method static_vectors needs a directory that model2vec has saved; name one.")
    return StaticVectors(options.static_vectors)


def untrained(options: Options) -> Any:
    from bothways.baselines.untrained import UntrainedTransformer

    return UntrainedTransformer(options.encoder, seed=options.seed, verbose=options.verbose)


def frozen(options: Options) -> Any:
    from bothways.baselines.frozen import FrozenEncoder

    return FrozenEncoder(options.encoder)


def bert(options: Options) -> Any:
    from bothways.classifier import TextClassifier

    return TextClassifier(options.encoder, seed=options.seed, verbose=options.verbose)


METHODS: dict[str, Method] = {
    "majority": Method("The commonest class, whatever the text says", "多数类：不看文本，总选最常见的类别", majority),
    "svm": Method("TF-IDF of words and characters, linear SVM", "词与字的 TF-IDF，线性 SVM", svm),
    "logistic_regression": Method(
        "TF-IDF of words and characters, logistic regression", "词与字的 TF-IDF，逻辑回归", logistic_regression
    ),
    "random_forest": Method("TF-IDF of words, random forest", "词与字的 TF-IDF，随机森林", random_forest),
    "word2vec": Method("Mean of word2vec vectors, linear SVM", "word2vec 词向量取平均，线性 SVM", word2vec, "compare"),
    "glove": Method("Mean of GloVe vectors, linear SVM", "GloVe 词向量取平均，线性 SVM", glove, "compare"),
    "rnn": Method("Recurrent network, both ways", "双向 RNN", rnn),
    "lstm": Method("Long short-term memory, both ways", "双向 LSTM", lstm),
    "static_vectors": Method(
        "Static vectors (model2vec), logistic regression", "静态向量（model2vec），逻辑回归", static_vectors, "compare"
    ),
    "untrained": Method("The Transformer without pre-training", "未经预训练的 Transformer", untrained),
    "frozen": Method("BERT as it is, logistic regression", "BERT 不微调，逻辑回归", frozen),
    "bert": Method(
        "BERT, pre-trained and fine-tuned; a tenth of the rows tells what its scores mean",
        "BERT：预训练后微调；十分之一的数据用来校准分数",
        bert,
    ),
}
"""By name, from the simplest to the largest."""
