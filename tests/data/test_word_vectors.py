"""word2vec over a corpus: what it reads, that it is repeatable, and that pre-training begins with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import films

from bothways.data.corpus import Corpus
from bothways.data.preparation import build_corpus
from bothways.data.word_vectors import word2vec
from bothways.errors import InputError
from bothways.pretraining import PretrainingConfig, pretrain
from bothways.tokenizer import Tokenizer

CONFIG = PretrainingConfig(
    steps=30, batch_tokens=1024, sequence_length=32, final_share=0.0, held_out=0.1, evaluate_every=10, precision="fp32"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Corpus:
    documents = [[t + "." for t in films(12, seed=seed)[0]] for seed in range(150)]
    return build_corpus(documents, tokenizer, tmp_path_factory.mktemp("corpus") / "corpus")


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


def test_pretraining_begins_with_what_they_know(corpus: Corpus, tmp_path: Path) -> None:
    """Nothing but the bias, how common each word is, is worth much on made-up films; it must be there at once."""
    losses = {}
    for name, given in (("with", True), ("without", False)):
        config = replace(CONFIG, word2vec=given, learning_rate=1e-6)
        *_, log = pretrain(corpus.directory, tmp_path / name, size="tiny", config=config)
        losses[name] = log.held_out["mlm"][0][1]
    assert losses["with"] < losses["without"] - 1


def test_an_encoder_that_has_embeddings(corpus: Corpus, tmp_path: Path) -> None:
    pretrain(corpus.directory, tmp_path / "first", size="tiny", config=replace(CONFIG, steps=1))
    with pytest.raises(InputError, match=r"--word2vec is for a new encoder"):
        pretrain(corpus.directory, tmp_path / "out", encoder=tmp_path / "first", config=replace(CONFIG, word2vec=True))
