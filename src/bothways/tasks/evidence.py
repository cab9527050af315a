"""How much logits speak for a label: what an explanation shares out among the words of a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


class Explainable(ABC):
    """What a kind of output answers for when it is explained."""

    unit: ClassVar[str] = "log-odds"
    """What evidence is measured in."""

    @abstractmethod
    def evidence(self, logits: Tensor, label: int) -> Tensor:
        """(n, width) → (n,): how much each of n predictions speaks for a label, with a gradient."""

    @abstractmethod
    def explained(self, probabilities: np.ndarray) -> list[int]:
        """(width,) → the labels of one text, or word, that are explained unless another is named."""


def log_odds(logits: Tensor, label: int) -> Tensor:
    """log(p / (1 - p)) of one class of several that exclude each other: (n, classes) → (n,).

    Unlike p it does not stand still where the model is sure, so that words still differ there.
    """
    others = torch.cat((logits[:, :label], logits[:, label + 1 :]), dim=-1)
    return logits[:, label] - others.logsumexp(-1)
