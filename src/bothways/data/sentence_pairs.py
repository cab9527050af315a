"""Next-sentence pairs (arXiv 1810.04805, section 3.1, task 2 and appendix A.2).

A document is cut into stretches of whole sentences, each as long as a sequence. A stretch gives one pair: its start is
the first text; the second is, half of the time, the rest of the stretch and otherwise a piece of another document.
Everything is a pure function of (seed, epoch, position), so nothing is stored, every epoch differs and a run can be
taken up anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bothways.batch import Encoding
from bothways.data.corpus import Corpus
from bothways.errors import InputError

NEXT, RANDOM = 0, 1


@dataclass(frozen=True)
class SentencePair:
    """Two texts as one sequence, and whether the second truly follows."""

    encoding: Encoding
    label: int
    """`NEXT` or `RANDOM`; the order of labels in `model.config.NEXT_SENTENCE`."""


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
    ) -> None:
        """`short_share`: share of stretches cut shorter at random, so that short inputs are no surprise later.
        `random_share`: share of pairs whose second text is from another document; 0: never, for a model without
        next-sentence prediction."""
        if random_share and corpus.documents < 2:
            raise InputError(
                f"{corpus.directory}: next-sentence pairs need two documents at least; put a blank line between "
                f"documents, or leave out the next-sentence output."
            )
        self.corpus, self.sequence_length, self.seed = corpus, sequence_length, seed
        self.short_share, self.random_share = short_share, random_share
        self._lengths = corpus.lengths()
        self._epoch = -1

    def __getitem__(self, position: int) -> SentencePair:
        """The pair at `position`."""
        epoch, within = divmod(position, self.in_epoch(0))
        starts, ends, order = self._stretches(epoch)
        stretch = order[within % len(order)]
        random = np.random.default_rng([self.seed, epoch, within])
        return self._pair(int(starts[stretch]), int(ends[stretch]), random)

    def in_epoch(self, epoch: int) -> int:
        """How many positions an epoch has: those of the first one, so that positions can be counted without it."""
        if not hasattr(self, "_count"):
            self._count = len(self._stretches(epoch)[2])
        return self._count

    def _stretches(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The stretches of an epoch: (first sentence, sentence after the last, the order to visit them in)."""
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            room = self.sequence_length - 3
            starts: list[int] = []
            documents = self.corpus.document_starts
            target = 0
            filled = room  # so that the first sentence begins a stretch
            at_document = 0
            for sentence, length in enumerate(self._lengths.tolist()):
                if sentence == documents[at_document]:
                    at_document += 1
                    filled = target
                if filled >= target:
                    starts.append(sentence)
                    filled = 0
                    target = int(random.integers(2, room + 1)) if random.random() < self.short_share else room
                filled += length
            self._starts = np.array(starts)
            self._ends = np.array([*starts[1:], len(self._lengths)])
            self._order = random.permutation(len(starts))
            self._epoch = epoch
        return self._starts, self._ends, self._order

    def _pair(self, start: int, end: int, random: np.random.Generator) -> SentencePair:
        room = self.sequence_length - 3
        first, rest = self._cut_in_two(start, end, random)
        label = RANDOM if random.random() < self.random_share else NEXT
        second = self._from_another_document(start, room - min(len(first), room - 1), random) if label else rest
        first, second = cut_to_fit(first, second, room, random)
        tokenizer = self.corpus.tokenizer
        ids = np.concatenate(([tokenizer.first_id], first, [tokenizer.separator_id], second, [tokenizer.separator_id]))
        segments = np.zeros(len(ids), np.int8)
        segments[len(first) + 2 :] = 1
        return SentencePair(Encoding(ids.astype(np.int32), segments), label)

    def _cut_in_two(self, start: int, end: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A stretch cut between two sentences; a lone sentence is cut within."""
        if end - start > 1:
            middle = int(random.integers(start + 1, end))
            return self.corpus.span(start, middle), self.corpus.span(middle, end)
        tokens = self.corpus.span(start, end)
        middle = int(random.integers(1, len(tokens))) if len(tokens) > 1 else 1
        return tokens[:middle], tokens[middle:]

    def _from_another_document(self, start: int, length: int, random: np.random.Generator) -> np.ndarray:
        """About `length` tokens from a random place in a document other than that of sentence `start`."""
        documents = self.corpus.document_starts
        own = int(np.searchsorted(documents, start, side="right")) - 1
        other = int(random.integers(0, self.corpus.documents - 1))
        other += other >= own
        first, end = int(documents[other]), int(documents[other + 1])
        at = last = int(random.integers(first, end))
        filled = 0
        while last < end and filled < length:
            filled += int(self._lengths[last])
            last += 1
        return self.corpus.span(at, last)


def cut_to_fit(
    first: np.ndarray, second: np.ndarray, room: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the longer text, at its front or its back by chance, until both fit into `room` tokens."""
    excess = len(first) + len(second) - room
    if excess <= 0:
        return first, second
    # What remains of each when the longer one always gives way, as in the published create_pretraining_data.py.
    shorter = min(len(first), len(second), room // 2)
    keep_first, keep_second = (room - shorter, shorter) if len(first) > len(second) else (shorter, room - shorter)
    return cut_ends(first, keep_first, random), cut_ends(second, keep_second, random)


def cut_ends(tokens: np.ndarray, keep: int, random: np.random.Generator) -> np.ndarray:
    """`keep` tokens in a row; how many go at the front is chance, token by token."""
    front = int(random.binomial(len(tokens) - keep, 0.5))
    return tokens[front : front + keep]
