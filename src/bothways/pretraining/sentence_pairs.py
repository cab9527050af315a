"""Next-sentence pairs (arXiv 1810.04805, section 3.1, task 2 and appendix A.2).

A document is split into stretches of whole sentences, each as long as a sequence. A stretch gives one pair: its start
is the first text; the second is, half of the time, the rest of the stretch and otherwise a piece of another document,
as long as that rest, so that length does not give the answer away.
Everything is a pure function of (seed, epoch, position), so nothing is stored, every epoch differs and a run can be
taken up anywhere. Many pairs are made at once, in numpy: one by one they would cost a fifth of the training itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bothways.corpus.shards import Corpus, ranges
from bothways.errors import InputError
from bothways.randomness import uniform

NEXT, RANDOM = 0, 1
SPECIALS = 3
"""[CLS] first [SEP] second [SEP]"""


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts laid end to end, and whether the second of each truly follows."""

    token_ids: np.ndarray
    """(tokens,) int64."""
    segment_ids: np.ndarray
    """(tokens,) int64."""
    continues: np.ndarray
    """(tokens,) bool: whether a token continues the word before it."""
    lengths: np.ndarray
    """(pairs,) int64: the tokens of each pair, special tokens included."""
    labels: np.ndarray
    """(pairs,) int64: `NEXT` or `RANDOM`; the order of labels in `model.config.NEXT_SENTENCE`."""
    positions: np.ndarray
    """(pairs,) int64: which pairs these are."""


class SentencePairs:
    """All pairs of a corpus, by position; positions run on from epoch to epoch."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        sequence_length: int = 128,
        short_share: float = 0.1,
        random_share: float = 0.5,
        seed: int = 0,
        documents: np.ndarray | None = None,
    ) -> None:
        """`short_share`: share of stretches that aim at a random shorter length, so that short inputs are no surprise.
        `random_share`: share of pairs whose second text is from another document; 0: never, for a model without
        next-sentence prediction. `documents`: those to read, in rising order; None: all."""
        assert sequence_length > SPECIALS + 1, "no room for two texts"
        self.documents = np.arange(corpus.documents) if documents is None else documents
        if random_share and len(self.documents) < 2:
            raise InputError(
                f"{corpus.directory}: next-sentence pairs need two documents at least; put a blank line between "
                f"documents, or pre-train with --no-next-sentence."
            )
        self.corpus, self.room, self.seed = corpus, sequence_length - SPECIALS, seed
        self.short_share, self.random_share = short_share, random_share
        self._token_of = corpus.token_starts  # (sentences + 1,): the token with which each sentence starts
        self._last: tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
        self.in_epoch = len(self._stretches(0)[0])
        """Positions in an epoch: as many as the first one has stretches, so that any position is found at once."""

    def __getitem__(self, position: int) -> Pairs:
        """The pair at `position`."""
        return self.at(np.array([position]))

    def at(self, positions: np.ndarray) -> Pairs:
        """The pairs at some positions, shortest first, so that attention has few rectangles. (pairs,) int64 → Pairs."""
        epochs, within = np.divmod(positions, self.in_epoch)
        starts, ends = np.empty_like(positions), np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            stretches, stretch_ends, order = self._stretches(int(epoch))
            chosen = order[within[here] % len(order)]
            starts[here], ends[here] = stretches[chosen], stretch_ends[chosen]
        chance = uniform(self.seed, epochs, within, draws=7)
        first_start, first_end = self._token_of[starts], self._middle(starts, ends, chance[0])
        labels = np.where(chance[1] < self.random_share, RANDOM, NEXT)
        if self.random_share:  # a single token leaves none to follow it
            labels[first_end == self._token_of[ends]] = RANDOM
        lacking = self._targets(epochs, starts) - (first_end - first_start)
        rest = self._token_of[ends] - first_end
        other_start, other_end = self._elsewhere(starts, lacking, rest, chance[2], chance[3])
        second_start = np.where(labels == RANDOM, other_start, first_end)
        second_end = np.where(labels == RANDOM, other_end, self._token_of[ends])
        keep_first, keep_second = fit(first_end - first_start, second_end - second_start, self.room)
        first_start = first_start + within_excess(first_end - first_start - keep_first, chance[4])
        second_start = second_start + within_excess(second_end - second_start - keep_second, chance[5])
        order = np.argsort(keep_first + keep_second, kind="stable")
        spans = (first_start, keep_first, second_start, keep_second, labels, positions)
        return self._laid_out(*(values[order] for values in spans))

    def _stretches(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The stretches of an epoch: (first sentence, sentence after the last, the order to visit them in)."""
        known = self._last  # looked up once: several threads make batches, perhaps of two epochs
        if known is not None and known[0] == epoch:
            return known[1]
        documents, token_of = self.corpus.document_starts, self._token_of
        # From the start of every document, all documents abreast: a stretch ends where its target is reached, or with
        # the document, and the next one begins there.
        begun, ended = [], []
        start, last = documents[self.documents], documents[self.documents + 1]
        while len(start):
            target = self._targets(np.full(len(start), epoch), start)
            end = np.minimum(np.searchsorted(token_of, token_of[start] + target, side="left"), last)
            begun.append(start)
            ended.append(end)
            start, last = end[end < last], last[end < last]
        firsts, ends = np.sort(np.concatenate(begun)), np.sort(np.concatenate(ended))  # they do not overlap
        order = np.random.default_rng([self.seed, epoch]).permutation(len(firsts))
        self._last = epoch, (firsts, ends, order)
        return firsts, ends, order

    def _targets(self, epochs: np.ndarray, sentences: np.ndarray) -> np.ndarray:
        """The tokens that a stretch aims at which starts, in an epoch, at a sentence: (n,), (n,) → (n,) int64."""
        short, length = uniform(self.seed, epochs, sentences, draws=2, stream=1)
        return np.where(short < self.short_share, 2 + (length * (self.room - 1)).astype(np.int64), self.room)

    def _middle(self, starts: np.ndarray, ends: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """The token at which each stretch is split in two: between two sentences; a lone sentence is split within."""
        lone = ends - starts == 1
        sentence = starts + 1 + (chance * (ends - starts - 1)).astype(np.int64)
        first, last = self._token_of[starts], self._token_of[ends]
        token = first + 1 + (chance * (last - first - 1)).astype(np.int64)
        return np.where(lone, token, self._token_of[np.minimum(sentence, ends)])

    def _elsewhere(
        self, starts: np.ndarray, lacking: np.ndarray, rest: np.ndarray, which: np.ndarray, where: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sentences from a random place in a document other than that of each sentence in `starts`: as the true rest
        does, they have the tokens that are `lacking` at least, or about as many as the `rest` if the document ends
        before. All (pairs,) int64; the last two in [0, 1).
        """
        documents, token_of = self.corpus.document_starts, self._token_of
        own = np.searchsorted(self.documents, np.searchsorted(documents, starts, side="right") - 1)
        other = (which * (len(self.documents) - 1)).astype(np.int64)
        other = self.documents[np.minimum(other + (other >= own), len(self.documents) - 1)]
        first, end = documents[other], documents[other + 1]
        at = first + (where * (end - first)).astype(np.int64)
        wanted = np.maximum(np.minimum(lacking, rest), 1)
        # Not so near the end of its document that it would be shorter.
        at = np.maximum(np.minimum(at, np.searchsorted(token_of, token_of[end] - wanted, side="right") - 1), first)
        last = np.minimum(np.searchsorted(token_of, token_of[at] + wanted, side="left"), end)
        over, under = token_of[last] - token_of[at] - wanted, wanted - (token_of[last - 1] - token_of[at])
        last -= (rest < lacking) & (under < over) & (last > at + 1)
        return token_of[at], token_of[last]

    def _laid_out(
        self,
        first: np.ndarray,
        first_length: np.ndarray,
        second: np.ndarray,
        second_length: np.ndarray,
        labels: np.ndarray,
        positions: np.ndarray,
    ) -> Pairs:
        """Spans of the corpus' tokens → `[CLS] first [SEP] second [SEP]`, end to end."""
        tokenizer, lengths = self.corpus.tokenizer, first_length + second_length + SPECIALS
        starts = np.cumsum(lengths) - lengths
        separators = starts + 1 + first_length
        token_ids = np.empty(lengths.sum(), np.int64)
        segment_ids = np.zeros(lengths.sum(), np.int64)
        continues = np.zeros(lengths.sum(), bool)
        token_ids[starts] = tokenizer.cls_id
        token_ids[separators] = tokenizer.sep_id
        token_ids[starts + lengths - 1] = tokenizer.sep_id
        segment_ids[ranges(separators + 1, second_length + 1)] = 1
        for goal, begin, length in ((starts, first, first_length), (separators, second, second_length)):
            places = ranges(goal + 1, length)
            token_ids[places], continues[places] = self.corpus.take(ranges(begin, length))
        return Pairs(token_ids, segment_ids, continues, lengths, labels, positions)


def fit(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens of each text to keep in `room`: the longer one gives way until both are equal, as published
    (google-research/bert, create_pretraining_data.py). (pairs,) lengths → (pairs,) lengths."""
    shorter = np.minimum(np.minimum(first, second), room // 2)
    fits = first + second <= room
    keep_first = np.where(fits, first, np.where(first > second, room - shorter, shorter))
    keep_second = np.where(fits, second, np.where(first > second, shorter, room - shorter))
    return keep_first, keep_second


def within_excess(excess: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """How many of the tokens that do not fit go at the front: none, all or anything between."""
    return (chance * (excess + 1)).astype(np.int64)
