"""The optimizers, and the learning rate over time: warm-up, then linear decay (arXiv 1810.04805, appendix A.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bothways.hardware import resolve
from bothways.model.text_model import TextModel
from bothways.training.config import OptimizerName
from bothways.training.distributed import is_distributed


def optimizers_for(
    bert: TextModel,
    name: OptimizerName = "adamw",
    *,
    learning_rate: float,
    weight_decay: float,
    muon_every: int = 1,
    embedding_rate: float = 1.0,
    output_rate: float = 1.0,
    recorded: bool = False,
) -> list[torch.optim.Optimizer]:
    """`adamw`: AdamW for everything (arXiv 1711.05101). `muon`: Muon for the weight matrices of the encoder's layers,
    AdamW for the rest. Matrices decay; vectors (biases, norms) do not.

    Muon's updates are scaled to the size of AdamW's (arXiv 2502.16982, section 2.2), so one learning rate suits both.
    `muon_every`: see `Muon`. `embedding_rate`, `output_rate`: how many times the learning rate the token embeddings and
    the output layers have, the `times` of their groups. `recorded`: their steps will be part of a CUDA graph.
    """
    trained = [p for p in bert.parameters() if p.requires_grad]
    in_layers = {p for p in bert.encoder.parameters() if p.ndim == 2} if name == "muon" else set()
    times: dict[Tensor, float] = dict.fromkeys(trained, 1.0)
    times |= dict.fromkeys(bert.outputs.parameters(), output_rate)
    times[bert.token_embedding.weight] = embedding_rate
    kinds: dict[tuple[float, bool], list[Tensor]] = {}
    for parameter in trained:
        if parameter not in in_layers:
            kinds.setdefault((times[parameter], parameter.ndim <= 1), []).append(parameter)
    groups = [
        {"params": kinds[kind], "weight_decay": 0.0 if kind[1] else weight_decay, "times": kind[0]}
        for kind in sorted(kinds)
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=recorded)
    ]
    if matrices := [p for p in trained if p in in_layers]:
        optimizers.append(
            Muon(matrices, learning_rate=learning_rate, weight_decay=weight_decay, every=muon_every, together=recorded)
        )
    return optimizers


class Muon(torch.optim.Muon):
    """PyTorch's Muon, with three things added.

    Turns: orthogonalising costs the same however few tokens an update has, so with `every` above 1 each matrix is moved
    at every so many updates only, so much farther; its momentum takes in every gradient. The group's `update` is the
    number of the update. Batches: with `together` matrices of one shape are orthogonalised at once, a quarter of the
    launches on CUDA; a CPU is as fast one by one. The learning rate may be a tensor on the device.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        *,
        learning_rate: float,
        weight_decay: float,
        every: int = 1,
        together: bool = False,
    ) -> None:
        super().__init__(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.every, self.together = every, together
        for group in self.param_groups:
            group["update"], group["times"] = 0, 1.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take in the gradients, and move the matrices whose turn it is."""
        for group in self.param_groups:
            alike: dict[torch.Size | int, list[tuple[Tensor, Tensor]]] = {}
            for number, matrix in enumerate(group["params"]):
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                if (group["update"] + number) % self.every == 0:
                    ahead = matrix.grad.lerp(state["momentum_buffer"], group["momentum"])
                    alike.setdefault(matrix.shape if self.together else number, []).append((matrix, ahead))
            for pairs in alike.values():
                matrices, ahead = map(list, zip(*pairs, strict=True))
                directions = orthogonalize(
                    torch.stack(ahead) if self.together else ahead[0],
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                    resolve(None, matrices[0].device),
                )
                rate = self.every * group["lr"]
                moves = directions.to(matrices[0].dtype) * (-0.2 * max(matrices[0].shape) ** 0.5 * rate)
                for matrix, move in zip(matrices, moves.unbind() if self.together else [moves], strict=True):
                    matrix.mul_(1 - rate * group["weight_decay"]).add_(move)


def orthogonalize(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float, dtype: torch.dtype
) -> Tensor:
    """About the nearest orthogonal matrix, by Newton and Schulz (github.com/KellerJordan/Muon).

    (rows, columns), or (n, rows, columns) for n of them → the same in `dtype`. bf16 has digits enough for it, but is
    for machines that are fast at it; a CPU that is not has a shorter way.
    """
    if dtype == torch.float32 and matrices.device.type == "cpu" and matrices.ndim == 2 and not is_distributed(matrices):
        try:
            return orthogonalize_by_eigenvectors(matrices, coefficients, steps, eps)
        except torch.linalg.LinAlgError:  # a gradient is no number, which the loop reports
            pass
    a, b, c = coefficients
    add = torch.addmm if matrices.ndim == 2 else torch.baddbmm
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = matrices.to(dtype)
    found = found.mT if tall else found
    found = found / torch.linalg.vector_norm(found, dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = add(found, add(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


def orthogonalize_by_eigenvectors(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """What `orthogonalize` finds, within 5e-4, in a half to a third of the time: (rows, columns) → the same.

    The iteration changes nothing but singular values, so it can run on these numbers alone. They are the roots of the
    eigenvalues of the smaller Gram matrix, whose eigenvectors cost less than fifteen products (docs/decisions.md).
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    squares, vectors = torch.linalg.eigh(matrix.mT @ matrix if tall else matrix @ matrix.mT)
    squares = squares.clamp(min=0)
    norm = squares.sum().sqrt().clamp(min=eps)
    squares, factors = squares / norm**2, torch.ones_like(squares) / norm
    for _ in range(steps):
        factor = a + b * squares + c * squares**2
        squares, factors = squares * factor**2, factors * factor
    inverse_root = (vectors * factors) @ vectors.mT
    return matrix @ inverse_root if tall else inverse_root @ matrix


def schedule(step: int, *, total: int, warmup: float) -> float:
    """The factor on the learning rate at update `step` (from 0): up over `warmup` of all updates, then down to 0.

    A pure function of the step, so that a resumed run cannot jump.
    """
    rising = max(1.0, warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (total - step) / max(1.0, total - rising))
