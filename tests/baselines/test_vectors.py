"""Word vectors: co-occurrences counted by hand, GloVe's objective, published files."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from bothways import InputError
from bothways.baselines.vectors import (
    PublishedVectors,
    Word2Vec,
    co_occurrences,
    common_words,
    glove_tables,
    mean_vectors,
)


def test_words_meet_with_one_over_their_distance_and_never_across_texts() -> None:
    found = co_occurrences([["a", "b", "a", "c"], ["c", "b"], ["a"], []], ["a", "b", "c"], window=2).toarray()
    expected = np.zeros((3, 3))
    for i, j, weight in [(0, 1, 1), (0, 0, 0.5), (1, 0, 1), (1, 2, 0.5), (0, 2, 1), (2, 1, 1)]:
        expected[i, j] += weight
        expected[j, i] += weight
    np.testing.assert_allclose(found, expected)
    assert co_occurrences([["a", "x", "b"]], ["a", "b"], window=1).nnz == 0  # an unknown word keeps its place


def test_products_of_glove_vectors_approach_logarithms() -> None:
    """Without noise and with room enough, the error of equation 8 all but vanishes."""
    random = np.random.default_rng(0)
    factors = random.normal(size=(30, 4))
    logs = factors @ factors.T
    rows, columns = np.indices(logs.shape).reshape(2, -1)
    meetings = coo_matrix((np.exp(logs).ravel() * 10, (rows, columns)))

    def loss(epochs: int) -> float:
        words, contexts = glove_tables(meetings, 16, epochs=epochs, learning_rate=0.05, seed=0)
        guess = words[:, :-1] @ contexts[:, :-1].T + words[:, -1:] + contexts[:, -1]
        weights = np.minimum(1, (meetings.toarray() / 100) ** 0.75)
        return float((weights * (guess - np.log(meetings.toarray())) ** 2).sum() / weights.sum())

    assert loss(300) < 0.02 * loss(0)
    assert loss(3) == loss(3)


def test_published_vectors_are_read_whatever_wraps_them(tmp_path: Path) -> None:
    text = "the 0.5 -1 2\nnew york 1 2 3\n屏幕 0 0 1\nthe 9 9 9\n"
    (tmp_path / "plain.txt").write_text(text, "utf-8")
    (tmp_path / "headed.vec").write_text("4 3\n" + text, "utf-8")
    with gzip.open(tmp_path / "packed.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write(text)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("vectors.txt", text)
    for name in ("plain.txt", "headed.vec", "packed.txt.gz", "packed.zip"):
        found = PublishedVectors(str(tmp_path / name)).fit()
        assert found.words_ == ["the", "new york", "屏幕"]
        np.testing.assert_allclose(found.matrix_, [[0.5, -1, 2], [1, 2, 3], [0, 0, 1]])
    assert PublishedVectors(str(tmp_path / "plain.txt"), most=1).fit().words_ == ["the"]


@pytest.mark.parametrize("line", ["good 1 2", "good 1 2 x", "good 1 2 nan", "1 2 3"])
def test_a_line_that_is_no_vector_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "vectors.txt").write_text(f"the 1 2 3\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=r"vectors\.txt, line 2: this is no word with 3 numbers"):
        PublishedVectors(str(tmp_path / "vectors.txt")).fit()


def test_means_are_weighted_and_of_length_one() -> None:
    vectors = PublishedVectors("")
    vectors.words_, vectors.matrix_ = ["a", "b"], np.array([[1, 0], [0, 1]], np.float32)
    found = mean_vectors([["a", "a", "b", "x"], ["x"], []], vectors, np.array([3.0, 8.0], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0]], atol=1e-6)


def test_common_words_come_in_one_order() -> None:
    assert common_words([["b", "a"], ["b", "c", "a"]], 2) == ["a", "b"]
    assert common_words([["b"], ["a"]], 2) == ["a", "b"]  # all, where none is common


def test_word2vec_does_not_depend_on_the_hash_seed() -> None:
    script = (
        "from bothways.baselines.vectors import Word2Vec; texts = [['a', 'b', 'c', 'd']] * 20;"
        "v = Word2Vec(4, epochs=2).fit(texts); print(v.words_, v.matrix_.tolist())"
    )
    command = [sys.executable, "-c", script]
    found = {
        subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert Word2Vec(4, epochs=1).fit([["a", "b"]] * 3).matrix_.shape == (2, 4)
