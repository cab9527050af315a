"""The optimizers, and the learning rate over time: warm-up, then linear decay (arXiv 1810.04805, appendix A.2)."""

from __future__ import annotations

from typing import Literal

import torch

from bothways.model.bert import Bert

OptimizerName = Literal["adamw", "muon"]


def optimizers_for(
    bert: Bert, name: OptimizerName = "adamw", *, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW (arXiv 1711.05101), in which matrices decay and vectors (biases, norms) do not; under the name of muon Muon
    for the matrices of the encoder's layers, what turns hidden states into hidden states, and AdamW for the rest.

    Muon's updates are scaled to the size of AdamW's (arXiv 2502.16982, section 2.2), so one learning rate suits both.
    """
    trained = [p for p in bert.parameters() if p.requires_grad]
    in_layers = {p for p in bert.encoder.parameters() if p.ndim == 2} if name == "muon" else set()
    groups = [
        {"params": [p for p in trained if p.ndim > 1 and p not in in_layers], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
    ]
    if matrices := [p for p in trained if p in in_layers]:
        optimizers.append(
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def schedule(step: int, *, total: int, warmup: float) -> float:
    """The factor on the learning rate at update `step` (from 0): up over `warmup` of all updates, then down to 0.

    A pure function of the step, so that a resumed run cannot jump.
    """
    rising = max(1.0, warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (total - step) / max(1.0, total - rising))
