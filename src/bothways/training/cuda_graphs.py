"""CUDA graphs: the kernels of an update are launched one by one once, recorded, and from then on replayed in one call.

An update of a small encoder is a thousand kernels of a few microseconds each. A CPU launches them more slowly than the
device runs them (figures in docs/decisions.md); replaying a recording needs no launches. A recording is of fixed shapes
and addresses, so batches are rounded up to few shapes (`PackedBatch.rounded_up`) and copied to the recorded addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bothways.batch import TrainingBatch

MOST = 64
"""Recordings that are kept; work of rarer shapes is done without."""

Work = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Tensors in, tensors out, all on the device; what else it changes, it changes in place."""


class CudaGraphs:
    """Runs work on a CUDA device: the first time as it is, the second time recorded, then replayed."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        """Everything runs on this one stream, or the recording would have to wait for others."""
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Sequence[Tensor], Sequence[Tensor]]] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Everything that belongs to the work, recorded or not, runs inside."""
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
