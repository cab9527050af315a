"""Masking against its distribution (arXiv 1810.04805, section 3.1)."""

from __future__ import annotations

import numpy as np
import pytest

from bothways.pretraining.masking import Masking
from bothways.tokenizer import SPECIAL_TOKENS, Tokenizer

TEXTS = ["unbelievably good scenes alone", "这家酒店很干净", "the plot, the jokes: worse!"] * 400


@pytest.fixture(scope="module")
def packed(tokenizer: Tokenizer) -> np.ndarray:
    return np.concatenate([e.token_ids for e in tokenizer.encode_batch(TEXTS)]).astype(np.int64)


def chance(packed: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, len(packed)))


def within(count: int, total: int, share: float) -> bool:
    """Whether a share is within four standard deviations of a binomial's."""
    return abs(count - share * total) < 4 * np.sqrt(total * share * (1 - share))


def test_share_and_fates(packed: np.ndarray, tokenizer: Tokenizer) -> None:
    masked = Masking(tokenizer, whole_words=False)(packed, tokenizer.continues_word()[packed], chance(packed, 0))
    special = np.isin(tokenizer.tokens(packed), SPECIAL_TOKENS)
    chosen = len(masked.positions)
    assert within(chosen, int((~special).sum()), 0.15)
    assert not special[masked.positions].any()
    assert (masked.targets == packed[masked.positions]).all()
    seen = masked.token_ids[masked.positions]
    kept = int((seen == masked.targets).sum())
    hidden = int((seen == tokenizer.mask_id).sum())
    assert within(hidden, chosen, 0.8)
    ordinary = tokenizer.vocab_size - len(SPECIAL_TOKENS)
    assert within(kept, chosen, 0.1 + 0.1 / ordinary)
    assert within(chosen - hidden - kept, chosen, 0.1 * (1 - 1 / ordinary))
    assert not np.isin(tokenizer.tokens(seen[seen != tokenizer.mask_id]), SPECIAL_TOKENS).any()
    untouched = np.ones(len(packed), bool)
    untouched[masked.positions] = False
    assert (masked.token_ids[untouched] == packed[untouched]).all()


def test_whole_words_go_together(packed: np.ndarray, tokenizer: Tokenizer) -> None:
    masked = Masking(tokenizer)(packed, tokenizer.continues_word()[packed], chance(packed, 0))
    chosen = np.zeros(len(packed), bool)
    chosen[masked.positions] = True
    continues = tokenizer.continues_word()[packed]
    assert continues.any()
    inside = np.flatnonzero(continues)
    assert (chosen[inside] == chosen[inside - 1]).all()
    special = np.isin(tokenizer.tokens(packed), SPECIAL_TOKENS)
    assert abs(chosen[~special].mean() - 0.15) < 0.03


def test_chance_is_the_callers(packed: np.ndarray, tokenizer: Tokenizer) -> None:
    masking, continues = Masking(tokenizer), tokenizer.continues_word()[packed]
    first, again = (masking(packed, continues, chance(packed, 5)) for _ in range(2))
    assert (first.token_ids == again.token_ids).all()
    assert (masking(packed, continues, chance(packed, 6)).token_ids != first.token_ids).any()
