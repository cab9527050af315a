"""AdamW with decay groups, warm-up and linear decay (arXiv 1711.05101; arXiv 1810.04805, appendix A.2)."""

from __future__ import annotations

import torch
from torch import nn


def optimizer_for(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW in which matrices decay and vectors (biases, norms) do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def schedule(step: int, *, total: int, warmup: float) -> float:
    """The factor on the learning rate at update `step` (from 0): up over `warmup` of all updates, then down to 0.

    A pure function of the step, so that a resumed run cannot jump.
    """
    rising = max(1.0, warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (total - step) / max(1.0, total - rising))
