"""On CUDA: what a device does for a batch, recorded once for each shape and replayed by a single call.

The update of a small encoder is a thousand kernels of a few microseconds, which a CPU launches more slowly than the
device runs them (figures in docs/decisions.md). A CUDA graph keeps the launches. It wants the same shapes and addresses
every time, so batches are rounded up with filler that nothing looks at, and copied to where the recorded one lay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from bothways.batch import PackedBatch, TrainingBatch
from bothways.model.config import UNLABELLED, Reads

MOST = 64
"""Recordings that are kept; work of rarer shapes is done without."""

Work = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Tensors in, tensors out, all on the device; whatever else it changes lies where it was."""


class Recorder:
    """Does work on a CUDA device: the first of a kind as it is, the second is recorded, from then on it is replayed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        """Everything has to happen on one stream, or the recording would have to wait for others."""
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Sequence[Tensor], Sequence[Tensor]]] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """All that belongs to the work, recorded or not, is done inside."""
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    def __call__(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> Sequence[Tensor]:
        """The results of `work(given)`; they are overwritten when the next recorded work is done.

        `kind` names the work and all that decides it but the content of `given` (on the CPU or the device).
        """
        if kind not in self._recorded:
            moved = [tensor.to(self.device, non_blocking=True) for tensor in given]
            if kind not in self._seen or len(self._recorded) == MOST:
                self._seen.add(kind)
                return work(moved)
            graph = torch.cuda.CUDAGraph()
            # Other threads go on pinning memory, which the strictest mode forbids.
            with torch.cuda.graph(graph, self._pool, self.stream, capture_error_mode="thread_local"):
                results = work(moved)
            self._recorded[kind] = graph, moved, results
        graph, places, results = self._recorded[kind]
        for place, tensor in zip(places, given, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return results


def rounded_up(batch: TrainingBatch, reads: Mapping[str, Reads]) -> TrainingBatch:
    """The same batch with filler at its end, so that few shapes remain: some sequences that count for nothing.

    `reads`: what each output layer reads, by its name, which tells how long its targets are. `lengths` stays what it
    was, so that nobody counts the filler.
    """
    inputs = batch.inputs
    tokens, sequences = len(inputs.token_ids), len(inputs.lengths)
    step = max(256, 1 << (tokens.bit_length() - 6))  # a 32nd to a 64th
    longest = up_to_multiple(inputs.longest, 64)
    fillers = -(-step // (longest - 1))
    room = up_to_multiple(tokens + fillers, step) - tokens  # a token each at least, and none longer than the longest
    ends = tokens + torch.linspace(0, room, fillers + 1, dtype=torch.float64).long()[1:]
    sizes = {"first": sequences + fillers, "mean": sequences + fillers, "tokens": tokens + room, "masked": 0}
    masked = inputs.masked_positions
    if masked is not None:
        sizes["masked"] = up_to_multiple(len(masked), step)
        masked = filled(masked, sizes["masked"], tokens + room - 1)
    return TrainingBatch(
        PackedBatch(
            token_ids=filled(inputs.token_ids, tokens + room, 0),
            segment_ids=filled(inputs.segment_ids, tokens + room, 0),
            positions=filled(inputs.positions, tokens + room, 0),
            sequence_starts=torch.cat((inputs.sequence_starts, ends)),
            lengths=inputs.lengths,
            masked_positions=masked,
            longest=longest,
        ),
        {
            name: filled(target, sizes[reads[name]], float("nan") if target.is_floating_point() else UNLABELLED)
            for name, target in batch.targets.items()
        },
    )


def filled(tensor: Tensor, size: int, value: float) -> Tensor:
    """(n, …) → (size, …), the new entries all `value`."""
    return pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, size - len(tensor)), value=value)


def up_to_multiple(number: int, of: int) -> int:
    """The next multiple of `of`, from `number` on."""
    return -(-number // of) * of


def tensors_of(batch: TrainingBatch) -> list[Tensor]:
    """Every tensor of a batch, in an order that `with_tensors` knows."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    batch.moved(note)
    return found


def with_tensors(batch: TrainingBatch, tensors: Sequence[Tensor]) -> TrainingBatch:
    """The same batch with other tensors in the order of `tensors_of`."""
    coming = iter(tensors)
    return batch.moved(lambda _: next(coming))


def shape_of(batch: TrainingBatch) -> Hashable:
    """What decides the launches of a batch."""
    return batch.inputs.longest, *(tuple(tensor.shape) for tensor in tensors_of(batch))
