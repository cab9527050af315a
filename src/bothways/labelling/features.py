"""Texts as vectors, without labels: what the methods of this room are given to learn from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bothways.baselines.bag_of_words import words_or_characters
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine
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
    if engine.pretokenized:
        found = engine.features(table.texts, table.pairs)
    else:
        found = engine.features(plain(table.texts), table.pairs and plain(table.pairs))
    return Features(standardized(found), C=0.01)


def standardized(features: np.ndarray) -> np.ndarray:
    """(rows, hidden) → the same with mean 0 and variance 1 in each column, so that no feature weighs by its unit."""
    return (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)


def tfidf_features(table: Table) -> Features:
    """Words and pairs of them (Chinese: runs of one to three characters), weighed by rarity; (rows, terms) sparse."""
    from scipy.sparse import hstack

    by_text = [
        words_or_characters(texts).fit_transform(texts)
        for texts in map(plain, filter(None, (table.texts, table.pairs)))
    ]
    return Features(hstack(by_text).tocsr(), C=3.0)


def plain(texts: Sequence[Text]) -> list[str]:
    """Texts that may have come as words."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]
