"""Output layers: losses that leave out what is not labelled, and the short way through a large vocabulary."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from bothways.model.outputs import UNLABELLED, ManyClasses


def test_many_classes_in_bf16() -> None:
    """Loss and gradient against PyTorch's cross-entropy in fp32 on the same bf16 logits."""
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(0, 3, (60, 5000))).to(torch.bfloat16)
    targets = torch.from_numpy(random.integers(0, 5000, 60))
    targets[[3, 10]] = UNLABELLED
    ours, theirs = logits.clone().requires_grad_(), logits.float().requires_grad_()
    loss = ManyClasses.apply(ours, targets)
    expected = cross_entropy(theirs, targets, ignore_index=UNLABELLED, reduction="sum")
    (loss * 0.5).backward()
    (expected * 0.5).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.01, atol=1e-4)
    assert not ours.grad[[3, 10]].any()
