"""Where Chinese words begin, which no space tells: for hiding them whole (arXiv 1906.08101)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import tokenizers

from bothways.language import chinese_words

Words = Literal["spaces", "jieba"]
"""What tells words apart: spaces and marks alone, every Chinese character being a word; or `jieba` for Chinese, too."""

WordSegmenter = Callable[[str, tokenizers.Encoding], np.ndarray]
"""A sentence and its encoding → (tokens,) bool: whether a Chinese character continues the word before it."""


def segmenter(words: Words) -> WordSegmenter | None:
    """The function for `words`; None if there is nothing to do. Raises InputError if jieba is not installed."""
    if words == "spaces":
        return None
    split = chinese_words()

    def continuing(sentence: str, encoding: tokenizers.Encoding) -> np.ndarray:
        if sentence.isascii():
            return np.zeros(len(encoding), bool)
        begins = np.zeros(len(sentence) + 1, bool)
        at = 0
        for word in split(sentence):
            begins[at] = True
            at += len(word)
        starts = np.array([start for start, _ in encoding.offsets], np.int64)
        chinese = np.array(["㐀" <= sentence[start] <= "鿿" for start in starts], bool)
        return chinese & ~begins[starts]

    return continuing
