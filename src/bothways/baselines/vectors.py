"""Vectors of words: learned from the texts at hand by word2vec or GloVe, or published ones read from a file.

Each source is fitted to tokenized texts; afterwards `words_` are its words and `matrix_` (words, width) their vectors.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from bothways.errors import InputError
from bothways.files.json_object import read_json_object
from bothways.files.names import without_secrets

Texts = Sequence[list[str]]
"""Texts as words, see `words.words_of`."""
Source = TypeVar("Source", bound="WordVectors")


class WordVectors(BaseEstimator, ABC):
    """Where vectors of words come from."""

    words_: list[str]
    matrix_: np.ndarray
    """(words, width) float32."""

    @abstractmethod
    def fit(self: Source, texts: Texts) -> Source:
        """Learn vectors of the words of texts, or read those that are known."""

    def described(self) -> dict[str, Any]:
        """The settings, as `source_of` reads them."""
        return {"source": type(self).__name__, "settings": self.get_params()}

    def write(self, directory: Path) -> None:
        """Put words, vectors and settings into files."""
        from safetensors.numpy import save_file

        save_file({"vectors": np.ascontiguousarray(self.matrix_)}, directory / "vectors.safetensors")
        content = self.described() | {"words": self.words_}
        (directory / "vectors.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")


def read_vectors(directory: Path) -> WordVectors:
    """What `WordVectors.write` has written. Raises InputError if it is damaged; FileNotFoundError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about = directory / "vectors.json"
    content = read_json_object(about)
    try:
        source = source_of(content)
        source.words_ = content["words"]
        source.matrix_ = load_file(directory / "vectors.safetensors")["vectors"]
    except (KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{about}: an entry is missing or not understood ({error}); save the method again.") from None
    if source.matrix_.ndim != 2 or len(source.matrix_) != len(source.words_):
        raise InputError(f"{about}: there are not as many vectors as words; save the method again.")
    return source


def source_of(described: dict[str, Any]) -> WordVectors:
    """A source that is not fitted, from `WordVectors.described`. KeyError or TypeError if it is not understood."""
    return SOURCES[described["source"]](**described["settings"])


def common_words(texts: Texts, least: int) -> list[str]:
    """The words that occur so often at least, the commonest first; if there are none, all."""
    counts = Counter(word for text in texts for word in text)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return [word for word in ordered if counts[word] >= least] or ordered


class Word2Vec(WordVectors):
    """Skip-gram with negative sampling (arXiv 1310.4546, section 2.2), by gensim in one thread, so that the same texts
    give the same vectors."""

    def __init__(self, width: int = 200, *, window: int = 5, epochs: int | None = None, seed: int = 0) -> None:
        """`epochs`: None: so many that 10 million words are read, 5 at least and 30 at most."""
        self.width, self.window, self.epochs, self.seed = width, window, epochs, seed

    def fit(self, texts: Texts) -> Word2Vec:
        try:
            import gensim.models
        except ImportError:
            raise InputError("Word vectors need gensim; install it with pip install 'bothways[compare]'.") from None
        words = common_words(texts, 2)
        known, total = set(words), sum(map(len, texts))
        epochs = self.epochs or int(np.clip(10_000_000 // max(1, total), 5, 30))
        trained = gensim.models.Word2Vec(
            [[word for word in text if word in known] for text in texts],
            vector_size=self.width,
            window=self.window,
            sg=1,
            negative=5,
            sample=1e-4 if total > 1_000_000 else 1e-3,
            epochs=epochs,
            min_count=1,
            workers=1,
            seed=self.seed,
            hashfxn=stable_hash,
        ).wv
        self.words_, self.matrix_ = list(trained.index_to_key), trained.vectors.astype(np.float32)
        return self


def stable_hash(word: str) -> int:
    """A number for a word, the same in every process, as Python's own is not."""
    import zlib

    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


class GloVe(WordVectors):
    """Vectors whose products are the logarithms of how often words meet, by weighted least squares (Pennington, Socher,
    Manning: GloVe, EMNLP 2014, equation 8)."""

    def __init__(
        self, width: int = 100, *, window: int = 10, epochs: int = 25, learning_rate: float = 0.05, seed: int = 0
    ) -> None:
        """As published (section 4.2): AdaGrad at a rate of 0.05, a window of 10 words in which the weight of a meeting
        is one over its distance."""
        self.width, self.window, self.epochs = width, window, epochs
        self.learning_rate, self.seed = learning_rate, seed

    def fit(self, texts: Texts) -> GloVe:
        self.words_ = common_words(texts, 2)
        meetings = co_occurrences(texts, self.words_, self.window)
        words, contexts = glove_tables(
            meetings, self.width, epochs=self.epochs, learning_rate=self.learning_rate, seed=self.seed
        )
        self.matrix_ = words[:, :-1] + contexts[:, :-1]  # as published, section 4.2
        return self


def co_occurrences(texts: Texts, words: Sequence[str], window: int) -> Any:
    """How often words meet within `window` words, each time with one over the distance as weight: a symmetric sparse
    matrix, (words, words), in coordinates and in order. Words that are not in `words` only take up their place."""
    from scipy.sparse import coo_matrix, csr_matrix

    number = {word: index for index, word in enumerate(words)}
    size, found = len(words), csr_matrix((len(words), len(words)), dtype=np.float64)
    for begin in range(0, len(texts), 20_000):
        ids, text_of = [], []
        for index, text in enumerate(texts[begin : begin + 20_000]):
            ids += [number.get(word, -1) for word in text]
            text_of += [index] * len(text)
        at, owner = np.array(ids, np.int64), np.array(text_of, np.int64)
        for distance in range(1, min(window, len(at) - 1) + 1):
            left, right = at[:-distance], at[distance:]
            meet = (owner[:-distance] == owner[distance:]) & (left >= 0) & (right >= 0)
            weights = np.full(int(meet.sum()), 1.0 / distance)
            found = found + coo_matrix((weights, (left[meet], right[meet])), shape=(size, size)).tocsr()
    return (found + found.T).tocoo()


def glove_tables(
    meetings: Any, width: int, *, epochs: int, learning_rate: float, seed: int, batch: int = 1 << 16
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of words and of contexts for a matrix of co-occurrences, each (words, width + 1) float32, a bias last.

    Entries come in batches, since one by one is slow in Python: the gradients of a batch are summed before AdaGrad
    takes a step.
    """
    from scipy.sparse import csr_matrix

    random, size = np.random.default_rng(seed), meetings.shape[0]
    rows, columns = meetings.row.astype(np.int64), meetings.col.astype(np.int64)
    logs = np.log(meetings.data).astype(np.float32)
    # Equation 9, whose 100 is for billions of words: among few, where hardly anything meets so often, all would weigh
    # next to nothing.
    enough = min(100.0, float(np.quantile(meetings.data, 0.99))) if len(rows) else 1.0
    weights = np.minimum(1.0, (meetings.data / enough) ** 0.75).astype(np.float32)
    tables = [((random.random((size, width + 1)) - 0.5) / width).astype(np.float32) for _ in range(2)]
    squares = [np.ones((size, width + 1), np.float32) for _ in range(2)]
    batch = max(1, min(batch, len(rows) // 20))
    for _ in range(epochs):
        order = random.permutation(len(rows))
        for chosen in np.array_split(order, max(1, -(-len(order) // batch))):
            i, j = rows[chosen], columns[chosen]
            left, right = tables[0][i], tables[1][j]
            guess = np.einsum("nd,nd->n", left[:, :-1], right[:, :-1]) + left[:, -1] + right[:, -1]
            errors = weights[chosen] * (guess - logs[chosen])
            spread = csr_matrix((errors, (i, j)), shape=(size, size))
            ones = np.ones((size, 1), np.float32)
            gradients = [
                spread @ np.hstack([tables[1][:, :-1], ones]),
                spread.T @ np.hstack([tables[0][:, :-1], ones]),
            ]
            for table, square, gradient in zip(tables, squares, gradients, strict=True):
                table -= learning_rate * gradient / np.sqrt(square)
                square += gradient**2
    return tables[0], tables[1]


class PublishedVectors(WordVectors):
    """Vectors that others have learned, from a text file: a word and its numbers a line, as GloVe's, fastText's and
    word2vec's are published; compressed or not."""

    def __init__(self, path: str, most: int | None = None) -> None:
        """`most`: only so many, from the beginning, where published files have the commonest words."""
        self.path, self.most = path, most

    def fit(self, texts: Texts = ()) -> PublishedVectors:
        from bothways.files.reading import read_lines

        words: list[str] = []
        vectors: list[np.ndarray] = []
        known: set[str] = set()
        for number, line in read_lines(self.path):
            cells = line.rstrip().split(" ")
            if number == 1 and len(cells) == 2 and all(map(str.isdecimal, cells)):  # how many there are, how wide
                continue
            if len(words) == self.most:
                break
            width = len(vectors[0]) if vectors else len(cells) - 1
            try:
                vector = np.array(cells[-width:], np.float32)
            except ValueError:
                vector = np.empty(0, np.float32)
            if width < 2 or len(vector) != width or len(cells) <= width or not np.isfinite(vector).all():
                raise InputError(
                    f"{self.path}, line {number}: this is no word with {max(width, 2)} numbers; give vectors as text."
                )
            word = " ".join(cells[:-width])
            if word not in known:
                known.add(word)
                words.append(word)
                vectors.append(vector)
        if not words:
            raise InputError(f"{self.path}: there are no word vectors here; give a word and its numbers a line.")
        self.words_, self.matrix_ = words, np.stack(vectors)
        return self

    def described(self) -> dict[str, Any]:
        described = super().described()
        described["settings"]["path"] = without_secrets(self.path)
        return described


SOURCES: dict[str, Any] = {source.__name__: source for source in (Word2Vec, GloVe, PublishedVectors)}


def mean_vectors(texts: Iterable[list[str]], vectors: WordVectors, weights: np.ndarray) -> np.ndarray:
    """The mean of the vectors of a text's words, each with its weight, of length 1: (texts, width) float32; zeros where
    no word is known. `weights`: (words,)"""
    from scipy.sparse import csr_matrix

    number = {word: index for index, word in enumerate(vectors.words_)}
    found = [[number[word] for word in text if word in number] for text in texts]
    starts = np.cumsum([0, *map(len, found)])
    ids = np.array([index for text in found for index in text], np.int64)
    spread = csr_matrix((weights[ids].astype(np.float32), ids, starts), shape=(len(found), len(weights)))
    sums = spread @ vectors.matrix_
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
