"""How much of the hardware a run uses: the arithmetic of its matrix products against the fastest product measured.

Counted as in arXiv 2204.02311, appendix B: a multiplication and an addition are two operations, a backward pass twice
its forward pass, and only matrix products count. The end of the last layer, which is computed only for the tokens that
an output layer reads, is counted for these alone.
"""

from __future__ import annotations

import time
from functools import cache

import torch

from bothways.batch import PackedBatch
from bothways.model.text_model import TextModel


def training_operations(model: TextModel, batch: PackedBatch) -> float:
    """Floating-point operations of one forward and backward pass over `batch`."""
    return 3 * 2 * model.multiplications(batch)


@cache
def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of some large matrix products in `dtype`, measured on `device`."""
    size = 8192 if device.type == "cuda" else 1024
    fastest = 0.0
    for rows in (size, 4 * size):
        a = torch.randn(rows, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        for _ in range(6):
            wait(device)
            started = time.perf_counter()
            torch.nn.functional.linear(a, b)
            wait(device)
            fastest = max(fastest, 2.0 * rows * size * size / (time.perf_counter() - started))
    return fastest


def wait(device: torch.device) -> None:
    """Until `device` has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
