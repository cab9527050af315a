"""What flows on the arrows: encoded texts (`tokenizer.Encoding`) packed into batches, and training targets.

There is no padding in this project. The sequences of a batch lie end to end on one axis of tokens:

    texts            [CLS] a film [SEP]      [CLS] 好 [SEP]
    token_ids        101 1037 2143 102       101 1962 102          (tokens,)
    segment_ids        0    0    0   0         0    0   0          (tokens,)
    positions          0    1    2   3         0    1   2          (tokens,)
    sequence_starts    0                       4             7     (sequences + 1,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bothways.tokenizer import Encoding


class Run(NamedTuple):
    """Neighbouring sequences of equal length: a rectangle within the packed batch, which attention computes at once."""

    sequences: int
    length: int


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
    """(sequences + 1,) int64: where each sequence starts; the last entry is the number of tokens."""
    lengths: tuple[int, ...]
    """The tokens of each sequence, known to Python so that nobody has to ask the device."""
    longest: int
    """No sequence has more tokens."""
    masked_positions: Tensor | None = None
    """(masked,) int64: the tokens that a masked-word output layer reads; None: all of them."""

    @classmethod
    def pack(cls, encodings: Sequence[Encoding]) -> PackedBatch:
        """Lay `encodings` end to end in the order given; neighbours of equal length are the fastest."""
        return cls.of(
            np.concatenate([e.token_ids for e in encodings]).astype(np.int64),
            np.concatenate([e.segment_ids for e in encodings]).astype(np.int64),
            np.fromiter(map(len, encodings), np.int64, len(encodings)),
        )

    @classmethod
    def of(
        cls,
        token_ids: np.ndarray,
        segment_ids: np.ndarray,
        lengths: np.ndarray,
        masked_positions: np.ndarray | None = None,
    ) -> PackedBatch:
        """A batch of sequences that lie end to end already. (tokens,), (tokens,), (sequences,) and (masked,), int64."""
        starts = np.concatenate(([0], np.cumsum(lengths)))
        return cls(
            token_ids=torch.from_numpy(token_ids),
            segment_ids=torch.from_numpy(segment_ids),
            positions=torch.from_numpy(np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)),
            sequence_starts=torch.from_numpy(starts),
            lengths=tuple(lengths.tolist()),
            longest=int(lengths.max()),
            masked_positions=None if masked_positions is None else torch.from_numpy(masked_positions),
        )

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The batch cut into rectangles, in order."""
        return tuple(Run(sum(1 for _ in group), length) for length, group in groupby(self.lengths))

    @cached_property
    def sequence_of_token(self) -> Tensor:
        """(tokens,) int64: the sequence that each token belongs to."""
        lengths = self.sequence_starts.diff()
        return torch.repeat_interleave(lengths, output_size=len(self.token_ids))

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
        )


@dataclass(frozen=True)
class TrainingBatch:
    """A packed batch and what each output layer ought to say about it."""

    inputs: PackedBatch
    targets: Mapping[str, Tensor]
    """By the name of the output layer; shapes as in `model.outputs`."""

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch on another device; from pinned memory nobody waits for it."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=True))

    def moved(self, move: Callable[[Tensor], Tensor]) -> TrainingBatch:
        """The same batch, each of its tensors moved."""
        return TrainingBatch(self.inputs.moved(move), {name: move(target) for name, target in self.targets.items()})
