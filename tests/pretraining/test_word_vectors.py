"""word2vec over a corpus: what it reads, and that it is repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bothways.corpus.shards import Corpus
from bothways.pretraining.word_vectors import word2vec


def test_counts_and_vectors(corpus: Corpus, tmp_path: Path) -> None:
    documents = np.arange(0, 150, 2)
    vectors, counts = word2vec(corpus, documents, 8, scratch=tmp_path, quiet=True)
    read = np.concatenate([corpus.document(int(i)) for i in documents])
    assert np.array_equal(counts, np.bincount(read, minlength=corpus.tokenizer.vocab_size))
    assert vectors.shape == (corpus.tokenizer.vocab_size, 8)
    assert np.array_equal(np.abs(vectors).sum(1) > 0, counts > 0)
    again, _ = word2vec(corpus, documents, 8, scratch=tmp_path, quiet=True)
    assert np.array_equal(vectors, again)
    assert not list(tmp_path.iterdir())
