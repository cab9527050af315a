"""Documents → sentences → tokens, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bothways.corpus.documents import split_sentences
from bothways.corpus.duplicates import Duplicates, keys
from bothways.corpus.shards import ranges, token_type
from bothways.corpus.word_segmentation import Words, segmenter
from bothways.tokenizer import Tokenizer

LONGEST_SENTENCE = 128
"""Tokens; longer sentences are split, or what does not fit into a sequence would never be read."""

Document = Sequence[str]
"""The lines of a document."""


class CachedTokenizer:
    """Texts → tokens, each word tokenized only once.

    BERT's tokenizer never looks across a space, and text repeats its words: what is known is looked up
    (docs/decisions.md).
    """

    MOST, MOST_CHARACTERS = 1 << 19, 1 << 22
    """Words remembered, and characters of them; more are forgotten all at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._type = token_type(tokenizer.vocab_size)
        self._forget()

    def _forget(self) -> None:
        self._places: dict[str, int] = {}
        self._characters = 0
        self._tokens = np.empty(0, self._type)
        self._ends = np.zeros(1, np.int64)
        """(words + 1,): where the tokens of each word end, after a 0."""

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of all texts, end to end, and how many each has: (tokens,), (texts,)."""
        by_space = self._tokenizer.splits_at_spaces
        words = [text.split(" ") if by_space else [text] for text in texts]
        flat = list(chain.from_iterable(words))
        self._learn(flat)
        places = np.fromiter(map(self._places.__getitem__, flat), np.int64, len(flat))
        counts = np.diff(self._ends)[places]
        tokens = self._tokens[ranges(self._ends[places], counts)]
        ends = np.concatenate(([0], np.cumsum(counts)))[np.cumsum([0, *map(len, words)])]
        return tokens, np.diff(ends)

    def _learn(self, words: list[str]) -> None:
        """Tokenize the words that are not known yet."""
        if len(self._places) > self.MOST or self._characters > self.MOST_CHARACTERS:
            self._forget()
        new = list(set(words).difference(self._places))
        self._characters += sum(map(len, new))
        tokens, lengths = end_to_end([encoding.ids for encoding in self._tokenizer.tokenize(new)], self._type)
        self._places.update(zip(new, range(len(self._places), len(self._places) + len(new)), strict=True))
        self._tokens = np.concatenate((self._tokens, tokens))
        self._ends = np.concatenate((self._ends, self._ends[-1] + np.cumsum(lengths)))


def end_to_end(ids: list[list[int]], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of tokens → all tokens and the length of each list: (tokens,), (lists,)."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return np.fromiter(chain.from_iterable(ids), dtype, int(lengths.sum())), lengths


@dataclass(frozen=True)
class TokenizedDocuments:
    """Some documents as tokens."""

    tokens: np.ndarray
    """(tokens,)"""
    continues: np.ndarray
    """(tokens,) bool: whether a token continues the word before it."""
    sentences: np.ndarray
    """(sentences,): tokens of each sentence."""
    documents: np.ndarray
    """(documents,): sentences of each document; 0 if it has no text."""
    keys: list[np.ndarray]
    """What each document is known by among duplicates; empty if duplicates are kept."""


class DocumentTokenizer:
    """Splits documents into sentences and tokenizes them; made once in each process."""

    def __init__(self, tokenizer: Tokenizer, duplicates: Duplicates, words: Words) -> None:
        self.tokenizer, self.duplicates = tokenizer, duplicates
        self.type = token_type(tokenizer.vocab_size)
        self.pieces = tokenizer.continues_word()
        self.words = segmenter(words)
        self.remembered = CachedTokenizer(tokenizer)

    def __call__(self, group: Sequence[Document]) -> TokenizedDocuments:
        """Tokenize some documents."""
        sentences = [[s for line in document for s in split_sentences(line)] for document in group]
        flat = [sentence for document in sentences for sentence in document]
        if self.words is None:
            tokens, lengths = self.remembered(flat)
            continues = self.pieces[tokens]
        else:
            encoded = self.tokenizer.tokenize(flat, with_offsets=True)
            tokens, lengths = end_to_end([encoding.ids for encoding in encoded], self.type)
            continues = self.pieces[tokens]
            if len(tokens):
                continues |= np.concatenate([self.words(s, e) for s, e in zip(flat, encoded, strict=True)])
        return self._counted(tokens, continues, lengths, [len(document) for document in sentences])

    def _counted(
        self, tokens: np.ndarray, continues: np.ndarray, lengths: np.ndarray, sentences: list[int]
    ) -> TokenizedDocuments:
        """Long sentences split, empty ones left out, and everything counted."""
        document_of = np.repeat(np.arange(len(sentences)), sentences)
        parts = -(-lengths // LONGEST_SENTENCE)
        document_of = np.repeat(document_of, parts)
        pieces = np.full(parts.sum(), LONGEST_SENTENCE, np.int64)
        if len(parts):
            last = np.cumsum(parts)[parts > 0] - 1
            pieces[last] = (lengths - (parts - 1) * LONGEST_SENTENCE)[parts > 0]
        documents = np.bincount(document_of, minlength=len(sentences))
        found: list[np.ndarray] = []
        if self.duplicates != "keep":
            ends = np.cumsum(np.bincount(document_of, pieces, minlength=len(sentences))).astype(np.int64)
            found = [keys(part, self.duplicates) for part in np.split(tokens, ends[:-1])]
        return TokenizedDocuments(tokens, continues, pieces, documents, found)
