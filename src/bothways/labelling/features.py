"""Texts as vectors, without labels: what the methods of this room are given to learn from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine
from bothways.language import mostly_chinese
from bothways.tables.table import Table
from bothways.tokenizer import Text


@dataclass(frozen=True)
class Features:
    """Texts as vectors."""

    vectors: Any
    """(rows, width), dense or sparse."""
    C: float
    """How freely a linear model of them may follow the rows (docs/log.md)."""

    def __len__(self) -> int:
        return self.vectors.shape[0]

    def take(self, rows: np.ndarray) -> Features:
        """Some rows."""
        return Features(self.vectors[rows], self.C)


def frozen(encoder: str | os.PathLike, table: Table) -> Engine:
    """An encoder made ready to read the texts of a table, without output layers. `auto`: the one of their language."""
    bert, tokenizer, _ = load_model(locate(encoder, table.texts))
    bert.attach()
    bert.config = replace(bert.config, text_columns=("text",) if table.pairs is None else ("text", "text_pair"))
    return Engine(bert, tokenizer)


def encoder_features(engine: Engine, table: Table) -> Features:
    """What an encoder makes of each text, or pair, whatever its output layers: the mean of its tokens in the last
    layer, (rows, hidden) float32, each column with mean 0 and variance 1."""
    texts, pairs = table.texts, table.pairs
    if not engine.pretokenized:
        texts, pairs = plain(texts), pairs and plain(pairs)
    return Features(standardized(engine.features(texts, pairs)), C=0.01)


def standardized(features: np.ndarray) -> np.ndarray:
    """(rows, hidden) → the same with mean 0 and variance 1 in each column, so that no feature weighs by its unit."""
    return (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)


def tfidf_features(table: Table) -> Features:
    """Words and pairs of them (Chinese: runs of one to three characters), weighed by rarity; (rows, terms) sparse."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    by_text = []
    for texts in (table.texts, table.pairs):
        if texts is None:
            continue
        of = {"analyzer": "char", "ngram_range": (1, 3)} if mostly_chinese(texts) else {"ngram_range": (1, 2)}
        least = 2 if len(texts) > 100 else 1
        by_text.append(TfidfVectorizer(sublinear_tf=True, min_df=least, **of).fit_transform(plain(texts)))
    return Features(hstack(by_text).tocsr(), C=3.0)


def plain(texts: Sequence[Text]) -> list[Text]:
    """Texts that may have come as words."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]
