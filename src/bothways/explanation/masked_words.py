"""The masked-word view: what the encoder would read where a word is hidden (arXiv 1810.04805, section 3.1, task 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import PackedBatch
from bothways.errors import InputError
from bothways.explanation.leave_out import masked
from bothways.explanation.words import Reading, Word, reading_of
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.tasks.scores import rounded
from bothways.tokenizer import Encoding, Tokenizer, well_formed

MOST_TOKENS = 512
"""Of a text whose words are hidden."""
AT_ONCE = 8192
"""Tokens of all variants that are computed together."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What may stand in the place of one token."""

    word: Word
    """The word that it is a piece of; of a token [MASK] in the text, that."""
    token: str
    """What stands there, as the vocabulary spells it."""
    probability: float | None
    """Of what stands there; None for [MASK]."""
    tokens: tuple[str, ...]
    """The likeliest entries of the vocabulary, the likeliest first."""
    probabilities: tuple[float, ...]
    """Theirs."""

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "word": self.word.as_json(),
            "token": self.token,
            "probability": None if self.probability is None else rounded(self.probability),
            "tokens": list(self.tokens),
            "probabilities": list(map(rounded, self.probabilities)),
        }


def predict_masked(bert: Bert, tokenizer: Tokenizer, text: str, top: int = 5) -> list[Guess]:
    """What each [MASK] in a text may be; in a text without one, what each token may be if its whole word is hidden.

    Raises InputError for a model that has no output layer for masked words, as a classifier.
    """
    output = masked_lm_of(bert)
    text = well_formed(text)
    encoding = tokenizer.encode(text, max_length=min(bert.config.longest, MOST_TOKENS), with_offsets=True)
    reading = reading_of([text], encoding)
    asked = np.flatnonzero((encoding.token_ids == tokenizer.mask_id) & (reading.word_of_token >= 0))
    if len(asked):
        variants, places = [encoding], [asked]
    else:
        places = [np.flatnonzero(reading.word_of_token == word) for word in reading.read]
        variants = [masked(encoding, reading.word_of_token == word, tokenizer.mask_id) for word in reading.read]
    guesses = []
    for tokens, logits in zip(places, masked_logits(bert, output, variants, places), strict=True):
        probabilities = torch.softmax(logits.float(), dim=-1)
        best = probabilities.topk(min(top, probabilities.shape[-1]), dim=-1)
        for row, token in enumerate(tokens.tolist()):
            there = int(encoding.token_ids[token])
            guesses.append(
                Guess(
                    word=word_at(reading, token) if len(asked) else reading.words[reading.word_of_token[token]],
                    token=tokenizer.tokens([there])[0],
                    probability=None if len(asked) else float(probabilities[row, there]),
                    tokens=tuple(tokenizer.tokens(best.indices[row].tolist())),
                    probabilities=tuple(best.values[row].tolist()),
                )
            )
    return guesses


def word_at(reading: Reading, token: int) -> Word:
    """What one token stands for in a text; [MASK] is three words to a person."""
    assert reading.encoding.offsets is not None, "encode with_offsets to know the words"
    start, end = reading.encoding.offsets[token].tolist()
    return Word(reading.text[start:end], start, end)


def masked_lm_of(bert: Bert) -> OutputConfig:
    """The output layer for masked words. InputError if there is none."""
    for output in bert.config.outputs:
        if output.reads == "masked":
            return output
    raise InputError(
        "This model has no output layer for masked words; name an encoder that was pre-trained, such as en-mini or "
        "zh-mini."
    )


@torch.inference_mode()
def masked_logits(
    bert: Bert, output: OutputConfig, variants: Sequence[Encoding], places: Sequence[np.ndarray]
) -> Iterator[Tensor]:
    """For each variant the logits at its places, (places, vocabulary), a few variants at a time."""
    at_once = max(1, AT_ONCE // max(map(len, variants), default=1))
    for first in range(0, len(variants), at_once):
        some, theirs = variants[first : first + at_once], places[first : first + at_once]
        starts = np.cumsum([0, *map(len, some)])[:-1]
        batch = PackedBatch.of(
            np.concatenate([encoding.token_ids for encoding in some]).astype(np.int64),
            np.concatenate([encoding.segment_ids for encoding in some]).astype(np.int64),
            np.array([len(encoding) for encoding in some], np.int64),
            masked_positions=np.concatenate([start + at for start, at in zip(starts, theirs, strict=True)]),
        )
        yield from bert(batch, only=(output.name,))[output.name].split([len(at) for at in theirs])
