"""What a tokenizer makes of the texts of a table: how long they are, and whether it knows their language."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bothways.evaluation.findings import Finding, finding
from bothways.language import CHINESE
from bothways.tables.table import Table
from bothways.tokenizer import Text, Tokenizer

AT_MOST = 10_000
"""Of longer tables so many rows, drawn at random, are tokenized."""
MOST_UNKNOWN = 0.01
"""Share of [UNK] among the tokens; a vocabulary of the texts' language had 0.4 % at most, of another 13 %."""
MOST_PIECES = 1.6
"""Tokens for each word between spaces; a vocabulary of the texts' language had 1.2 to 1.4, of another 1.5 to 1.8."""


def check_tokens(
    name: str, table: Table, tokenizer: Tokenizer, longest: int, *, in_windows: bool = False
) -> Iterator[Finding]:
    """How many texts are longer than an encoder reads at once (`longest`, in tokens), and how many tokens are [UNK]."""
    if not len(table):
        return
    chosen = np.arange(len(table))
    if len(table) > AT_MOST:
        chosen = np.sort(np.random.default_rng(0).choice(len(table), AT_MOST, replace=False))
    lengths, unknown, words = measured(table, chosen, tokenizer)
    of = f"of {len(chosen):,} rows drawn at random" if len(chosen) < len(table) else f"of {len(table):,} rows"
    specials = 2 if table.pairs is None else 3
    too_long = np.flatnonzero(lengths + specials > longest)
    half, most, all_of = np.percentile(lengths + specials, [50, 95, 100]).round().astype(int)
    fate = ", and are read in windows." if in_windows else ", and are truncated."
    sentence = (
        f"{name}: half of the texts have {half:,} tokens or fewer, 95 % of them {most:,}, the longest {all_of:,}; "
        f"{len(too_long):,} {of} are longer than the {longest:,} tokens that are read "
        f"at once{fate if len(too_long) else '.'}"
    )
    yield finding("lengths", name, [table.rows[chosen[i]] for i in too_long], len(chosen), sentence)
    total = max(1, int(lengths.sum()))
    if (share := int(unknown.sum()) / total) > MOST_UNKNOWN:
        worst = np.argsort(-unknown, kind="stable")[: int((unknown > 0).sum())]
        sentence = (
            f"{name}: {share:.1%} of all tokens are [UNK], in {len(worst):,} {of}: the encoder has not seen these "
            f"characters or words; choose one of this language (--encoder)."
        )
        yield finding("unknown_tokens", name, [table.rows[chosen[i]] for i in worst], len(chosen), sentence)
    elif (pieces := total / max(1, words)) > MOST_PIECES:
        sentence = (
            f"{name}: a word falls into {pieces:.2f} tokens on average, where a vocabulary of its language needs 1.2 "
            f"to 1.4; an encoder of this language or field (--encoder) reads more of a text and knows its words better."
        )
        yield finding("many_pieces", name, (), len(chosen), sentence, count=len(chosen))


def measured(table: Table, chosen: np.ndarray, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, int]:
    """(rows,) tokens of each text, or pair, without special ones; (rows,) how many are [UNK]; words in all."""
    lengths, unknown = np.zeros((2, len(chosen)), np.int64)
    words = 0
    for texts in (table.texts, table.pairs):
        if texts is None:
            continue
        part = [texts[i] for i in chosen]
        for i, encoding in enumerate(tokenizer.tokenize(part)):
            lengths[i] += len(encoding)
            unknown[i] += encoding.ids.count(tokenizer.unk_id)
        words += sum(map(words_in, part))
    return lengths, unknown, words


def words_in(text: Text) -> int:
    """Words between spaces; each Chinese character is one."""
    plain = text if isinstance(text, str) else " ".join(text)
    return len(CHINESE.sub(" x ", plain).split())
