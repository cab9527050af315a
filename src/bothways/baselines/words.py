"""A text as words or characters, whatever its language: Chinese words by `jieba`, others at spaces and marks."""

from __future__ import annotations

import re

from bothways.language import chinese_words

RUNS = re.compile(r"[\u3400-\u9fff]+|[^\u3400-\u9fff]+")
"""Chinese characters, or others."""
WORDS = re.compile(r"\w+?(?=n't)|n't|'\w+|\w+|[^\w\s]")
"""A word, a shortened one as published word vectors have it (do n't, it 's), or a mark."""


def words_of(text: str) -> list[str]:
    """The words and marks of a text in small letters.

    Raises InputError if the text has Chinese characters and jieba is not installed.
    """
    words: list[str] = []
    for run in RUNS.findall(text.lower()):
        words += chinese_words()(run) if "\u3400" <= run[0] <= "\u9fff" else WORDS.findall(run)
    return words


def characters_of(text: str) -> list[str]:
    """The same, but every Chinese character alone, so that none is rare in few texts."""
    pieces: list[str] = []
    for run in RUNS.findall(text.lower()):
        pieces += run if "\u3400" <= run[0] <= "\u9fff" else WORDS.findall(run)
    return pieces


def characters_and_neighbours_of(text: str) -> list[str]:
    """The same, and every two Chinese characters side by side."""
    pieces = characters_of(text)
    for run in RUNS.findall(text):
        if "\u3400" <= run[0] <= "\u9fff":
            pieces += [run[i : i + 2] for i in range(len(run) - 1)]
    return pieces
