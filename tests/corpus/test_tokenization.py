"""Words that are cut once give the same tokens as whole texts do."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from conftest import films
from hypothesis import given
from hypothesis import strategies as st

from bothways.corpus.tokenization import CachedTokenizer
from bothways.tokenizer import Tokenizer

MARKS = "ab éΣς \u0301\u00a0\u3000\t\n\x1c\u2028\u200b\ud800好电影，。.!-'😀İß[MASK]"


def check(remembered: CachedTokenizer, tokenizer: Tokenizer, texts: list[str]) -> None:
    tokens, lengths = remembered(texts)
    whole = [encoding.ids for encoding in tokenizer.tokenize(texts)]
    assert lengths.tolist() == [len(ids) for ids in whole]
    assert tokens.tolist() == [i for ids in whole for i in ids]


@given(texts=st.lists(st.text(st.sampled_from(MARKS) | st.characters(), max_size=30), max_size=8))
def test_any_text_is_cut_as_the_library_cuts_it(tokenizer: Tokenizer, texts: list[str]) -> None:
    remembered = CachedTokenizer(tokenizer)
    check(remembered, tokenizer, texts)
    check(remembered, tokenizer, texts)


def test_special_tokens_in_a_text(tokenizer: Tokenizer) -> None:
    check(CachedTokenizer(tokenizer), tokenizer, ["a [MASK] film", "a[SEP]film [ MASK ]", "[CLS]", ""])


def test_words_are_forgotten_in_time(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CachedTokenizer, "MOST", 5)
    remembered = CachedTokenizer(tokenizer)
    for seed in range(5):
        texts = films(6, seed=seed)[0]
        check(remembered, tokenizer, texts)
        assert len(remembered._places) <= 5 + len({word for text in texts for word in text.split(" ")})


def test_long_words_are_forgotten_sooner(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody writes spaces, a sentence is a word and every one is new."""
    monkeypatch.setattr(CachedTokenizer, "MOST_CHARACTERS", 1000)
    remembered = CachedTokenizer(tokenizer)
    for seed in range(20):
        check(remembered, tokenizer, ["".join(films(10, seed=seed)[0])])
        assert sum(map(len, remembered._places)) <= 1000 + 2000


def test_a_tokenizer_that_looks_across_spaces_is_asked_for_whole_texts(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.add_tokens(["new york"])
    other = Tokenizer(backend)
    assert tokenizer.splits_at_spaces
    assert not other.splits_at_spaces
    check(CachedTokenizer(other), other, ["in new york", "new yorkers", "new", "york"])
    assert np.array_equal(CachedTokenizer(other)(["new york"])[1], [1])
