"""Words counted and weighed by their rarity, a linear classifier or a forest on top: what every encoder has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from bothways.baselines.base import Baseline, joined
from bothways.baselines.parts import probabilities_of, read_part, write_part
from bothways.errors import InputError
from bothways.language import mostly_chinese

FEW_TEXTS = 200
"""With fewer, a word that one text has counts, too."""


class BagOfWords(Baseline):
    """Features of a text, a scikit-learn vectorizer, and a scikit-learn classifier on top.

    >>> BagOfWords()                                                          # doctest: +SKIP
    >>> BagOfWords(counts_of_words(), LogisticRegression(C=10))               # doctest: +SKIP
    """

    def __init__(self, features: Any = None, classifier: Any = None) -> None:
        """`features`: texts → (texts, features); None: words and characters, see `words_and_characters`. `classifier`:
        None: a linear SVM. One without probabilities gets them by `probabilities_of`."""
        self.features = features
        self.classifier = classifier

    def _learn(self, texts: list[str], pairs: list[str] | None, targets: np.ndarray) -> None:
        texts = joined(texts, pairs)
        self.features_ = words_and_characters(texts) if self.features is None else clone(self.features)
        self.classifier_ = linear_svm() if self.classifier is None else clone(self.classifier)
        try:
            found = self.features_.fit_transform(texts)
        except ValueError as error:
            if "vocabulary" in str(error) or "no terms" in str(error):
                raise InputError("There are no words in the texts; give texts with words.") from None
            raise
        self.classifier_.fit(found, targets)

    def _probabilities(self, texts: list[str], pairs: list[str] | None) -> np.ndarray:
        return probabilities_of(self.classifier_, self.features_.transform(joined(texts, pairs)))

    def _write(self, directory: Path) -> None:
        write_part(self.features_, directory / "features.skops")
        write_part(self.classifier_, directory / "classifier.skops")

    def _read(self, directory: Path) -> None:
        self.features_ = read_part(directory / "features.skops")
        self.classifier_ = read_part(directory / "classifier.skops")


def linear_svm() -> Any:
    """A linear SVM, one class against the others (LIBLINEAR, JMLR 9, 2008)."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=0.5, random_state=0)


def words_and_characters(texts: list[str]) -> Any:
    """TF-IDF of what suits the language of `texts`, not fitted yet: as `words_or_characters` and, where spaces part
    words, of characters 1–4 within words, too."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    if mostly_chinese(texts):
        return words_or_characters(texts)
    within = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), **weighing(texts))
    return make_union(words_or_characters(texts), within)


def words_or_characters(texts: list[str]) -> Any:
    """TF-IDF of words 1–2 where spaces part words, of characters 1–3 in Chinese, without spaces; not fitted yet."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    chinese = {"analyzer": "char", "ngram_range": (1, 3)}
    return TfidfVectorizer(**(chinese if mostly_chinese(texts) else {"ngram_range": (1, 2)}), **weighing(texts))


def weighing(texts: list[str]) -> dict[str, Any]:
    """How terms of `texts` are weighed, and which count."""
    return {"sublinear_tf": True, "min_df": 2 if len(texts) >= FEW_TEXTS else 1}


def tfidf_of_words(*, longest: int = 1, most: int | None = None) -> Any:
    """TF-IDF of words (Chinese ones by jieba) and of up to `longest` neighbours; `most`: the commonest only."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, **split_at_words(longest, most))


def tfidf_of_pieces(*, most: int | None = None) -> Any:
    """TF-IDF of words, and of Chinese characters alone and by twos, the `most` common ones: few enough for trees."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from bothways.baselines.words import characters_and_neighbours_of

    return TfidfVectorizer(sublinear_tf=True, analyzer=characters_and_neighbours_of, max_features=most)


def counts_of_words(*, longest: int = 1, most: int | None = None) -> Any:
    """How often a text has each word; otherwise as `tfidf_of_words`."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(**split_at_words(longest, most))


def split_at_words(longest: int, most: int | None) -> dict[str, Any]:
    """The settings of a scikit-learn vectorizer that counts words."""
    from bothways.baselines.words import words_of

    return {"tokenizer": words_of, "token_pattern": None, "ngram_range": (1, longest), "max_features": most}
