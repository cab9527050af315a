"""A text as a person reads it, in words, and which tokens are pieces of which: what contributions are told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bothways.errors import InputError
from bothways.language import chinese_words
from bothways.tasks.tags import words_of
from bothways.tokenizer import Encoding, Text, well_formed

if TYPE_CHECKING:
    from bothways.inference.engine import Engine

PARTS = re.compile(
    r"(?P<chinese>[\u3400-\u9fff]+)|(?:(?![\u3400-\u9fff])\w)+(?:['’](?:(?![\u3400-\u9fff])\w)+)*"
    r"|\[MASK\]|[^\w\s]"
)
"""A run of Chinese characters, a word (don't is one), a word that is hidden, or a mark."""


@dataclass(frozen=True)
class Word:
    """One word of a text, or several that stand together."""

    text: str
    start: int
    """Its first character, in its own text."""
    end: int
    """The character after its last."""
    of: Literal["text", "pair"] = "text"
    """The text of a pair that it stands in."""

    def as_json(self) -> dict[str, Any]:
        """`{"text", "start", "end", "of"}`"""
        return asdict(self)


@dataclass(frozen=True)
class Reading:
    """One text, or pair of texts, as a person and as the encoder reads it."""

    text: str
    pair: str | None
    encoding: Encoding
    words: tuple[Word, ...]
    """Those of the text, then those of the pair."""
    word_of_token: np.ndarray
    """(tokens,) int64: the word that each token is a piece of; -1 for special tokens."""

    @property
    def read(self) -> list[int]:
        """The words that the encoder has read a piece of, in order."""
        found = np.unique(self.word_of_token)
        return found[found >= 0].tolist()

    @property
    def unread(self) -> int:
        """How many words the encoder has not read."""
        return len(self.words) - len(self.read)

    def in_groups(self, size: int) -> Reading:
        """The same with so many words that stand together, in one text, taken as one."""
        if size < 2:
            return self
        group_of, groups = np.zeros(len(self.words) + 1, np.int64), list[list[Word]]()
        for i, word in enumerate(self.words):
            if not groups or len(groups[-1]) == size or groups[-1][0].of != word.of:
                groups.append([])
            groups[-1].append(word)
            group_of[i] = len(groups) - 1
        group_of[-1] = -1  # of special tokens, which have the index -1
        texts = {"text": self.text, "pair": self.pair or ""}
        merged = (
            Word(texts[group[0].of][group[0].start : group[-1].end], group[0].start, group[-1].end, group[0].of)
            for group in groups
        )
        return replace(self, words=tuple(merged), word_of_token=group_of[self.word_of_token])


def read(engine: Engine, text: Text, pair: Text | None = None) -> Reading:
    """Read one text, or a pair, as the engine's model does; as words, if that has a tag for each.

    Raises InputError for a pair where the model reads single texts, and the reverse.
    """
    given = [whole(part) for part in (text, pair) if part is not None]
    if engine.pretokenized:
        given = [words_of(part) if isinstance(part, str) else part for part in given]
    (encoding,) = engine.encode(given[:1], given[1:] or None, with_offsets=True)
    return reading_of(given, encoding)


def reading_of(given: Sequence[Text], encoding: Encoding) -> Reading:
    """One text or two, encoded with offsets, as words."""
    words: list[Word] = []
    word_of_token = np.full(len(encoding), -1, np.int64)
    assert encoding.words is not None, "encode with_offsets to know the words"
    assert encoding.offsets is not None, "encode with_offsets to know the words"
    of_text = encoding.offsets[:, 1] > encoding.offsets[:, 0]
    for segment, part in enumerate(given):
        found = list(words_in(part))
        of: Literal["text", "pair"] = "pair" if segment else "text"
        tokens = np.flatnonzero(of_text & (encoding.segment_ids == segment))
        if isinstance(part, str):
            starts = np.array([start for start, _ in found], np.int64)
            places = np.searchsorted(starts, encoding.offsets[tokens, 0], "right") - 1
        else:
            places = encoding.word_of(tokens)
        word_of_token[tokens] = np.maximum(places, 0) + len(words) if found else -1
        text = joined(part)
        words += [Word(text[start:end], start, end, of) for start, end in found]
    text, pair = joined(given[0]), joined(given[1]) if len(given) > 1 else None
    return Reading(text, pair, encoding, tuple(words), word_of_token)


def whole(text: Text) -> Text:
    """A text that can be shown."""
    return well_formed(text) if isinstance(text, str) else [well_formed(word) for word in text]


def joined(text: Text) -> str:
    """The words of a text as a text."""
    return text if isinstance(text, str) else " ".join(text)


def words_in(text: Text) -> Iterator[tuple[int, int]]:
    """Where the words of a text stand, in characters: from, to. Chinese ones as jieba finds them, if that is installed,
    else each character; the words of a list with a space between."""
    if not isinstance(text, str):
        at = 0
        for word in text:
            yield at, at + len(word)
            at += len(word) + 1
        return
    for match in PARTS.finditer(text):
        if match["chinese"] is None:
            yield match.span()
            continue
        at = match.start()
        for word in chinese_parts()(match[0]):
            yield at, at + len(word)
            at += len(word)


@cache
def chinese_parts() -> Callable[[str], Sequence[str]]:
    """What splits a run of Chinese characters: into words where jieba is installed, else into characters."""
    try:
        return chinese_words()
    except InputError:
        return list
