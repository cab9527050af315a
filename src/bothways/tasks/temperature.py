"""A temperature that makes scores mean what they say: of all texts with a score of 0.8, 80 % are right.

Logits are divided by one number, so the order of the classes stays (arXiv 1706.04599, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

LEAST, MOST = 0.05, 20.0
CELLS = 20_000_000
"""Most logits that a temperature is fitted to; of more rows the first are taken."""


def softmax_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """(n, classes), (n,) int: the temperature of softmax."""
    return fit(logits, targets, lambda cold, true: cross_entropy(cold, true, reduction="sum"))


def sigmoid_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """(n, labels), (n, labels) of 0 and 1: the temperature of sigmoids."""
    return fit(logits, targets, lambda cold, true: binary_cross_entropy_with_logits(cold, true, reduction="sum"))


def fit(logits: np.ndarray, targets: np.ndarray, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The temperature with the smallest loss, drawn a little to 1, so that few rows cannot carry it far: its logarithm
    has a normal prior of standard deviation 1."""
    from scipy.optimize import minimize_scalar

    rows = max(1, CELLS // max(1, logits.shape[1]))
    found, true = torch.from_numpy(logits[:rows]).double(), torch.from_numpy(targets[:rows])
    true = true.double() if true.is_floating_point() else true

    def cost(log_temperature: float) -> float:
        return float(loss(found / np.exp(log_temperature), true)) + log_temperature**2 / 2

    return float(np.exp(minimize_scalar(cost, bounds=(np.log(LEAST), np.log(MOST)), method="bounded").x))
