"""What flows on the arrows: encoded texts (`tokenizer.Encoding`) packed into batches, training targets, predictions.

There is no padding in this project. The sequences of a batch lie end to end on one axis of tokens:

    texts            [CLS] a film [SEP]      [CLS] 好 [SEP]
    token_ids        101 1037 2143 102       101 1962 102          (tokens,)
    segment_ids        0    0    0   0         0    0   0          (tokens,)
    positions          0    1    2   3         0    1   2          (tokens,)
    sequence_starts    0                       4             7     (sequences + 1,)

A long text may be several sequences, windows that overlap; then `text_starts` tells which belong together.
Where hardware wants few shapes, a little filler that is never read lies at the end (`PackedBatch.rounded_up`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bothways.tokenizer import Encoding

Reads = Literal["first", "mean", "tokens", "masked"]
"""What an output layer reads: a sequence's first token after the pooling layer, the mean of a sequence's tokens, every
token, or the masked tokens only."""

UNLABELLED = -100
"""A target that says nothing, as in PyTorch's cross-entropy; NaN where targets are floats."""


class Run(NamedTuple):
    """Neighbouring sequences of equal length: a rectangle within the packed batch, which attention computes at once."""

    sequences: int
    length: int


class Rows(NamedTuple):
    """The batch in rows of one width, each holding as many whole sequences as fit: a rectangle of one of few shapes."""

    number: int
    width: int
    """Slots in a row."""
    token_of_slot: Tensor
    """(number * width,) int64: the token in each slot; 0 where there is none."""
    slot_of_token: Tensor
    """(tokens,) int64: the slot of each token; 0 for filler, which `lengths` does not know."""
    attention_bias: Tensor
    """(number, width, width) bf16: 0 for two slots of one sequence, else -inf, to be added to their score."""


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end; see the picture at the top of this file."""

    token_ids: Tensor
    """(tokens,) int64."""
    segment_ids: Tensor
    """(tokens,) int64."""
    positions: Tensor
    """(tokens,) int64: 0, 1, 2, … within each sequence."""
    sequence_starts: Tensor
    """(sequences + 1,) int64: where each sequence starts; the last entry is the number of tokens. The field calls it
    cu_seqlens."""
    lengths: tuple[int, ...]
    """The tokens of each sequence, known to Python so that the device need not be asked."""
    longest: int
    """No sequence has more tokens; the field calls it max_seqlen."""
    masked_positions: Tensor | None = None
    """(masked,) int64: the tokens that a masked-word output layer reads; None: all of them."""
    text_starts: Tensor | None = None
    """(texts + 1,) int64: with which sequence each text starts, if one is read in windows; None: a text is a
    sequence."""

    @classmethod
    def pack(cls, encodings: Sequence[Encoding]) -> PackedBatch:
        """Lay `encodings` end to end in the order given; neighbours of equal length are the fastest."""
        windows = [encoding.windows or (len(encoding),) for encoding in encodings]
        in_windows = any(encoding.windows for encoding in encodings)
        return cls.of(
            np.concatenate([e.token_ids for e in encodings]).astype(np.int64),
            np.concatenate([e.segment_ids for e in encodings]).astype(np.int64),
            np.fromiter(chain.from_iterable(windows), np.int64),
            text_starts=np.cumsum([0, *map(len, windows)], dtype=np.int64) if in_windows else None,
        )

    @classmethod
    def of(
        cls,
        token_ids: np.ndarray,
        segment_ids: np.ndarray,
        lengths: np.ndarray,
        masked_positions: np.ndarray | None = None,
        text_starts: np.ndarray | None = None,
    ) -> PackedBatch:
        """A batch of sequences that lie end to end already. (tokens,), (tokens,), (sequences,), (masked,) and
        (texts + 1,), int64."""
        starts = np.concatenate(([0], np.cumsum(lengths)))
        return cls(
            token_ids=torch.from_numpy(token_ids),
            segment_ids=torch.from_numpy(segment_ids),
            positions=torch.from_numpy(np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)),
            sequence_starts=torch.from_numpy(starts),
            lengths=tuple(lengths.tolist()),
            longest=int(lengths.max()),
            masked_positions=None if masked_positions is None else torch.from_numpy(masked_positions),
            text_starts=None if text_starts is None else torch.from_numpy(text_starts),
        )

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The batch as rectangles, in order."""
        return tuple(Run(sum(1 for _ in group), length) for length, group in groupby(self.lengths))

    @cached_property
    def rows(self) -> Rows:
        """The batch laid out in rows, in order."""
        lengths = np.asarray(self.lengths)
        width = max(64, up_to_multiple(int(lengths.max()), 32))
        begins, row, used = np.empty_like(lengths), 0, 0
        for sequence, length in enumerate(self.lengths):
            if used + length > width:
                row, used = row + 1, 0
            begins[sequence] = row * width + used
            used += length
        number = round_up_coarsely(row + 1, parts=8)
        taken = np.arange(lengths.sum()) + np.repeat(begins - lengths.cumsum() + lengths, lengths)
        slots = np.zeros(len(self.token_ids), np.int64)
        tokens = np.zeros(number * width, np.int64)
        sequences = np.full(number * width, -1, np.int32)
        slots[: len(taken)] = taken
        tokens[taken] = np.arange(len(taken))
        sequences[taken] = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        across = torch.from_numpy(sequences).view(number, 1, width)
        attention_bias = torch.zeros(number, width, width, dtype=torch.bfloat16)
        attention_bias.masked_fill_(across != across.mT, float("-inf"))
        return Rows(number, width, torch.from_numpy(tokens), torch.from_numpy(slots), attention_bias)

    def tokens_read(self, reads: Collection[Reads]) -> Tensor | None:
        """The tokens whose last layer output layers read: (read,) int64, first tokens before masked ones; None: all."""
        if set(reads) <= {"first"}:
            return self.sequence_starts[:-1]
        if self.masked_positions is not None and set(reads) <= {"first", "masked"}:
            return torch.cat((self.sequence_starts[:-1], self.masked_positions))
        return None

    @cached_property
    def sequence_of_token(self) -> Tensor:
        """(tokens,) int64: the sequence that each token belongs to."""
        lengths = self.sequence_starts.diff()
        return torch.repeat_interleave(lengths, output_size=len(self.token_ids))

    @cached_property
    def text_of_sequence(self) -> Tensor:
        """(sequences,) int64: the text that each sequence belongs to."""
        sequences = len(self.sequence_starts) - 1
        if self.text_starts is None:
            return torch.arange(sequences, device=self.sequence_starts.device)
        return torch.repeat_interleave(self.text_starts.diff(), output_size=sequences)

    def size(self, reads: Reads) -> int:
        """How many targets an output layer has that reads this: one for each text, token or masked token."""
        if reads == "tokens":
            return len(self.token_ids)
        if reads == "masked" and self.masked_positions is not None:
            return len(self.masked_positions)
        texts = self.sequence_starts if self.text_starts is None else self.text_starts
        return len(self.token_ids) if reads == "masked" else len(texts) - 1

    def rounded_up(self, least: int = 16) -> PackedBatch:
        """The same batch with filler at its end, so that few shapes remain: some sequences that are never read.

        Tokens and masked tokens are rounded up by a 32nd at most, or to a multiple of `least`. `lengths` stays what it
        was, so that filler is not counted. Why: docs/decisions.md.
        """
        tokens, sequences = len(self.token_ids), len(self.lengths)
        longest = up_to_multiple(self.longest, 64)
        fillers = -(-max(least, tokens // 32) // (longest - 1))
        fillers = round_up_coarsely(sequences + fillers, 8) - sequences
        # A token each at least, and none longer than the longest.
        room = round_up_coarsely(tokens + fillers, least) - tokens
        ends = tokens + torch.linspace(0, room, fillers + 1, dtype=torch.float64).long()[1:]
        masked = self.masked_positions
        if masked is not None:
            masked = filled(masked, round_up_coarsely(len(masked), least), tokens + room - 1)
        texts = self.text_starts
        if texts is not None:  # one text of all that is filler, and some of nothing
            texts = filled(texts, up_to_multiple(len(texts), 8) + 1, sequences + fillers)
        return PackedBatch(
            token_ids=filled(self.token_ids, tokens + room, 0),
            segment_ids=filled(self.segment_ids, tokens + room, 0),
            positions=filled(self.positions, tokens + room, 0),
            sequence_starts=torch.cat((self.sequence_starts, ends)),
            lengths=self.lengths,
            longest=longest,
            masked_positions=masked,
            text_starts=texts,
        )

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=True))

    def moved(self, move: Callable[[Tensor], Tensor]) -> PackedBatch:
        """The same batch, each of its tensors moved."""
        return PackedBatch(
            token_ids=move(self.token_ids),
            segment_ids=move(self.segment_ids),
            positions=move(self.positions),
            sequence_starts=move(self.sequence_starts),
            lengths=self.lengths,
            longest=self.longest,
            masked_positions=None if self.masked_positions is None else move(self.masked_positions),
            text_starts=None if self.text_starts is None else move(self.text_starts),
        )


@dataclass(frozen=True)
class TrainingBatch:
    """A packed batch and what each output layer ought to say about it."""

    inputs: PackedBatch
    targets: Mapping[str, Tensor]
    """By the name of the output layer; shapes as in `model.outputs`."""

    def rounded_up(self, reads: Mapping[str, Reads], *, least: int) -> TrainingBatch:
        """The same batch with filler at its end, whose targets say nothing; see `PackedBatch.rounded_up`.

        `reads`: what each output layer reads, by its name.
        """
        inputs = self.inputs.rounded_up(least)
        targets = {
            name: filled(target, inputs.size(reads[name]), float("nan") if target.is_floating_point() else UNLABELLED)
            for name, target in self.targets.items()
        }
        return TrainingBatch(inputs, targets)

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch on another device; from pinned memory without waiting."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=True))

    def moved(self, move: Callable[[Tensor], Tensor]) -> TrainingBatch:
        """The same batch, each of its tensors moved."""
        return TrainingBatch(self.inputs.moved(move), {name: move(target) for name, target in self.targets.items()})


@dataclass(frozen=True)
class Predictions:
    """What a model says about some texts: logits, which `tasks` turn into probabilities, decisions and answers."""

    encodings: Sequence[Encoding]
    """The texts as they were read: how many tokens, and how many did not fit."""
    logits: Mapping[str, np.ndarray]
    """By output layer that reads texts: (texts, width) float32."""
    token_logits: Mapping[str, list[np.ndarray]]
    """By output layer that reads tokens: for each text (tokens, width) float32."""

    @property
    def truncated(self) -> int:
        """How many of the texts did not fit whole."""
        return sum(encoding.dropped > 0 for encoding in self.encodings)


def filled(tensor: Tensor, size: int, value: float) -> Tensor:
    """(n, …) → (size, …), the new entries all `value`."""
    return pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, size - len(tensor)), value=value)


def up_to_multiple(number: int, of: int) -> int:
    """The next multiple of `of`, from `number` on."""
    return -(-number // of) * of


def round_up_coarsely(number: int, least: int = 1, parts: int = 32) -> int:
    """`number` rounded up by 1 / `parts` of it at most, or to a multiple of `least`: few of many numbers remain."""
    return up_to_multiple(number, max(least, (1 << number.bit_length()) // (2 * parts)))
