"""word2vec over the tokens of a corpus (arXiv 1301.3781): what a minute of counting neighbours knows about words.

An encoder that starts with these vectors as its token embeddings is spared the millions of tokens that pre-training
otherwise spends on learning which words are alike (docs/decisions.md).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bothways.corpus.shards import Corpus
from bothways.errors import InputError
from bothways.files.writing import explain_disk_errors
from bothways.progress import Progress

MOST_TOKENS = 100_000_000
"""Tokens read in an epoch; of a larger corpus every second, third, … document is read."""
EPOCHS, WINDOW, NEGATIVE, SAMPLE = 3, 5, 5, 1e-4
LINE = 10_000
"""Words that the library reads of a line at most."""


def word2vec(
    corpus: Corpus, documents: np.ndarray, width: int, *, scratch: Path, seed: int = 0, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the tokens in some documents, and how often each token is there: (vocabulary, width) float32,
    (vocabulary,) int64. A token that is not there has a vector of zeros.

    Continuous bag of words with negative sampling, one thread, so that the same corpus gives the same vectors. The
    tokens pass through a file in `scratch`, a directory that is made if need be. Raises InputError if gensim is not
    installed.
    """
    try:
        from gensim.models import Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError:
        raise InputError("Word vectors need gensim; install it with pip install 'bothways[vectors]'.") from None

    class Epochs(CallbackAny2Vec):
        def on_epoch_end(self, model: Word2Vec) -> None:
            self.done = getattr(self, "done", 0) + 1
            progress.update(self.done)

    scratch.mkdir(parents=True, exist_ok=True)
    for left_over in scratch.glob("*.tokens"):  # of a run that was killed here
        left_over.unlink()
    handle, name = tempfile.mkstemp(suffix=".tokens", dir=scratch)
    try:
        with explain_disk_errors(scratch), os.fdopen(handle, "w") as stream:
            for line in lines(corpus, documents):
                stream.write(" ".join(map(str, line.tolist())) + "\n")
        with Progress("word vectors", EPOCHS, quiet=quiet) as progress:
            trained = Word2Vec(
                corpus_file=name,
                vector_size=width,
                window=WINDOW,
                negative=NEGATIVE,
                sample=SAMPLE,
                epochs=EPOCHS,
                min_count=1,
                workers=1,
                seed=seed,
                callbacks=[Epochs()],
            ).wv
    finally:
        os.unlink(name)
    vectors = np.zeros((corpus.tokenizer.vocab_size, width), np.float32)
    counts = np.zeros(len(vectors), np.int64)
    ids = np.array([int(word) for word in trained.index_to_key])
    vectors[ids] = trained.vectors
    counts[ids] = [trained.get_vecattr(word, "count") for word in trained.index_to_key]
    return vectors, counts


def lines(corpus: Corpus, documents: np.ndarray) -> Iterator[np.ndarray]:
    """The tokens of documents, in lines of at most `LINE`: each (tokens,)."""
    ends = corpus.token_starts[corpus.document_starts[1:]]
    total = int((ends - corpus.token_starts[corpus.document_starts[:-1]])[documents].sum())
    for document in documents[:: max(1, -(-total // MOST_TOKENS))]:
        tokens = corpus.document(int(document))
        yield from (tokens[start : start + LINE] for start in range(0, len(tokens), LINE))
