"""Bags of words: numbers against scikit-learn's own pipeline, files that run no code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES, films
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from bothways import InputError
from bothways.baselines.bag_of_words import BagOfWords, counts_of_words, tfidf_of_words
from bothways.baselines.majority import Majority
from bothways.baselines.words import characters_and_neighbours_of, characters_of, words_of


def test_words_of_both_languages() -> None:
    assert words_of("I don't like it's END，这家酒店很干净。ok!") == [
        *("i", "do", "n't", "like", "it", "'s", "end", "，"),
        *("这家", "酒店", "很", "干净", "。", "ok", "!"),
    ]
    assert words_of("") == []
    assert characters_of("酒店 is OK，好") == ["酒", "店", "is", "ok", "，", "好"]
    assert characters_and_neighbours_of("很酒店 ok") == ["很", "酒", "店", "ok", "很酒", "酒店"]


def test_the_probabilities_of_given_parts_are_those_of_a_pipeline() -> None:
    texts, labels = films(200)
    features, classifier = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)), LogisticRegression(C=3)
    expected = make_pipeline(features, classifier).fit(texts, labels).predict_proba(texts)
    found = BagOfWords(features, classifier).fit(texts, labels).predict_proba(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_likeliest_class_of_a_linear_svm_is_the_one_it_chooses() -> None:
    texts, labels = SENTENCES * 5, list("aabbcc") * 5
    fitted = BagOfWords().fit(texts, labels)
    chosen = fitted.classes_[fitted.classifier_.predict(fitted.features_.transform(texts))]
    assert (fitted.predict(texts) == chosen).all()


def test_counts_and_their_neighbours() -> None:
    counts = counts_of_words(longest=2).fit(["很 干净 很", "the film"])
    assert sorted(counts.vocabulary_) == ["film", "the", "the film", "干净", "干净 很", "很", "很 干净"]
    assert len(tfidf_of_words(most=2).fit(["a b b c c"]).vocabulary_) == 2


def test_a_part_that_could_run_code_is_neither_written_nor_read(tmp_path: Path) -> None:
    texts, labels = films(50)
    foreign = make_pipeline(FunctionTransformer(films), TfidfVectorizer())
    fitted = BagOfWords().fit(texts, labels)
    fitted.save(tmp_path / "saved")
    fitted.features_ = foreign
    with pytest.raises(InputError, match="is not scikit-learn's own"):
        fitted.save(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    import skops.io

    skops.io.dump(foreign, tmp_path / "saved" / "features.skops")
    with pytest.raises(InputError, match=r"features\.skops: .* could run code"):
        BagOfWords.load(tmp_path / "saved")
    (tmp_path / "saved" / "features.skops").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"features\.skops: this file is damaged"):
        BagOfWords.load(tmp_path / "saved")
    (tmp_path / "saved" / "features.skops").unlink()
    with pytest.raises(InputError, match=r"features\.skops: there is no such file"):
        BagOfWords.load(tmp_path / "saved")
    with pytest.raises(InputError, match="the method is 'BagOfWords', not 'Majority'"):
        Majority.load(tmp_path / "saved")


def test_texts_without_words_are_a_mistake() -> None:
    with pytest.raises(InputError, match="There are no words in the texts"):
        BagOfWords().fit(["", "  "], ["a", "b"])
