"""The optimizers, and the learning rate over time: warm-up, then linear decay (arXiv 1810.04805, appendix A.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bothways.model.bert import Bert

OptimizerName = Literal["adamw", "muon"]


def optimizers_for(
    bert: Bert,
    name: OptimizerName = "adamw",
    *,
    learning_rate: float,
    weight_decay: float,
    recorded: bool = False,
) -> list[torch.optim.Optimizer]:
    """AdamW (arXiv 1711.05101), in which matrices decay and vectors (biases, norms) do not; under the name of muon Muon
    for the matrices of the encoder's layers, what turns hidden states into hidden states, and AdamW for the rest.

    Muon's updates are scaled to the size of AdamW's (arXiv 2502.16982, section 2.2), so one learning rate suits both.
    `recorded`: their steps will be part of a CUDA graph.
    """
    trained = [p for p in bert.parameters() if p.requires_grad]
    in_layers = {p for p in bert.encoder.parameters() if p.ndim == 2} if name == "muon" else set()
    groups = [
        {"params": [p for p in trained if p.ndim > 1 and p not in in_layers], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = MuonTogether if recorded else torch.optim.Muon
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=recorded)
    ]
    if matrices := [p for p in trained if p in in_layers]:
        optimizers.append(kind(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


class MuonTogether(torch.optim.Muon):
    """PyTorch's Muon, with matrices of one shape orthogonalised together and a learning rate on the device.

    It has a quarter of the launches, and can be recorded in a CUDA graph. On a CPU PyTorch's own is as fast.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append((matrix, matrix.grad))
            for shape, pairs in alike.items():
                matrices, gradients = map(list, zip(*pairs, strict=True))
                states = [self.state[matrix] for matrix in matrices]
                for state, gradient in zip(states, gradients, strict=True):
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(gradient)
                momenta = [state["momentum_buffer"] for state in states]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
                updates = orthogonal(torch.stack(ahead), group["ns_coefficients"], group["ns_steps"], group["eps"])
                updates = updates.to(matrices[0].dtype) * (-0.2 * max(shape) ** 0.5 * group["lr"])
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, updates.unbind())


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """About the nearest orthogonal matrix to each of some, by Newton and Schulz (github.com/KellerJordan/Muon).

    (n, rows, columns) → the same in bf16.
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = matrices.bfloat16()
    found = found.mT if tall else found
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


def schedule(step: int, *, total: int, warmup: float) -> float:
    """The factor on the learning rate at update `step` (from 0): up over `warmup` of all updates, then down to 0.

    A pure function of the step, so that a resumed run cannot jump.
    """
    rising = max(1.0, warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (total - step) / max(1.0, total - rising))
