"""Hiding words for masked-word prediction (arXiv 1810.04805, section 3.1, task 1; whole words: arXiv 1906.08101)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bothways.tokenizer import Tokenizer
from bothways.vocabulary import SPECIAL_TOKENS


@dataclass(frozen=True)
class Masked:
    """Tokens with some of them hidden."""

    token_ids: np.ndarray
    """(tokens,) int64: what the model sees."""
    positions: np.ndarray
    """(masked,) int64: where it has to guess."""
    targets: np.ndarray
    """(masked,) int64: what stood there."""


class Masking:
    """Chooses words by chance; of the chosen tokens 80 % become [MASK], 10 % a random token, 10 % stay."""

    def __init__(self, tokenizer: Tokenizer, *, rate: float = 0.15, whole_words: bool = True) -> None:
        """`rate`: share of words to choose. `whole_words`: the pieces of a word are chosen together."""
        self.rate, self.mask_id, self.whole_words = rate, tokenizer.mask_id, whole_words
        spelled = tokenizer.tokens(range(tokenizer.vocab_size))
        self.special = np.isin(spelled, SPECIAL_TOKENS)
        self.continues = tokenizer.continues_word()
        """(vocabulary,) bool: whether an entry continues a word, where nothing else tells."""
        self.ordinary = np.flatnonzero(~self.special)

    def __call__(self, token_ids: np.ndarray, continues: np.ndarray, chance: np.ndarray) -> Masked:
        """Hide words in packed sequences. Special tokens are never chosen.

        `token_ids` (tokens,) int64; `continues` (tokens,) bool: whether a token continues the word before it; `chance`
        (3, tokens) in [0, 1): whether a word that begins here is chosen, a chosen token's fate, what replaces it.
        """
        # A word whose front was truncated goes on after a special token, and begins there.
        begins = ~continues if self.whole_words else np.ones(len(token_ids), bool)
        begins[1:] |= self.special[token_ids[:-1]]
        begins[:1] = True
        first_of_word = np.maximum.accumulate(np.where(begins, np.arange(len(token_ids)), 0))
        chosen = (chance[0] < self.rate)[first_of_word] & ~self.special[token_ids]
        positions = np.flatnonzero(chosen)
        targets = token_ids[positions]
        fate = chance[1][positions]
        hidden = token_ids.copy()
        hidden[positions[fate < 0.8]] = self.mask_id
        replaced = positions[fate >= 0.9]
        hidden[replaced] = self.ordinary[(chance[2][replaced] * len(self.ordinary)).astype(np.int64)]
        return Masked(hidden, positions, targets)
