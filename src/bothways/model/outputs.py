"""Output layers: what stands on top of the shared encoder, any number of them.

Each owns what it reads and its loss; how logits become probabilities is said in `tasks`.

    kind           reads (default)   logits             targets                         loss
    masked_lm    masked            (masked, vocab)    (masked,) int64                 cross-entropy
    next_sentence  first             (sequences, 2)     (sequences,) int64              cross-entropy
    single         first             (sequences, C)     (sequences,) int64              cross-entropy
    multi          first             (sequences, C)     (sequences, C) float, 0 or 1    binary cross-entropy
    regression     first             (sequences, 1)     (sequences,) float              squared error
    tags           tokens            (tokens, C)        (tokens,) int64                 cross-entropy
    mahalanobis    as another layer  (sequences, 1)     none: it is fitted, not trained
    vector         mean              (sequences, width) (sequences, width) float        squared distance

A target of `UNLABELLED` (NaN where targets are floats) is left out of the loss. Losses of single, multi and tags may
weigh classes (`OutputConfig.class_weights`) and be focal (`focal_gamma`). Single, multi and regression can also learn
the logits of another model (`distillation_loss`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    linear,
    mse_loss,
)

from bothways.batch import UNLABELLED
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.model.encoder import ACTIVATIONS


class OutputLayer(nn.Module):
    """A linear layer from a representation to logits; the kinds below differ in loss."""

    class_weights: Tensor | None

    def __init__(self, config: OutputConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(encoder.dropout)
        self.projection = nn.Linear(encoder.hidden_size, self.width(config))
        weights = torch.tensor(config.class_weights) if config.class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

    @staticmethod
    def width(config: OutputConfig) -> int:
        """How many logits a prediction has."""
        return len(config.labels)

    def forward(self, representation: Tensor) -> Tensor:
        """(n, hidden) → (n, width): the logits of n texts or tokens."""
        return self.projection(self.dropout(representation.to(self.projection.weight.dtype)))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss summed (not averaged) over all labelled targets; shapes in the table above. → scalar."""
        raise NotImplementedError

    def count(self, targets: Tensor) -> int:
        """How many targets are labelled, which is what a summed loss is divided by."""
        return int((targets != UNLABELLED).sum())

    @property
    def averages(self) -> int:
        """Over how many decisions of a row its loss is the mean."""
        return 1

    def distillation_loss(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """How far logits are from those of another model, both divided by `temperature`, summed over rows (arXiv
        1503.02531, section 2); rows of NaN are left out. Two of (n, width) → scalar. Not every kind has one."""
        raise NotImplementedError

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """How far each decision is that of another model: two of (n, width) → (n,), 1 where it is the same."""
        raise NotImplementedError

    @property
    def multiplications(self) -> int:
        """How many a forward pass takes for each of its rows."""
        return self.projection.weight.numel()


class SingleLabel(OutputLayer):
    """One class out of several for each text."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not self.config.focal_gamma:
            return cross_entropy(logits.float(), targets, self.class_weights, ignore_index=UNLABELLED, reduction="sum")
        losses = cross_entropy(logits.float(), targets, ignore_index=UNLABELLED, reduction="none")
        losses = focal(losses, self.config.focal_gamma)
        if self.class_weights is not None:
            losses = losses * self.class_weights[targets.clamp(min=0)]  # the loss without a label is 0
        return losses.sum()

    def distillation_loss(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        known = ~teacher_logits.isnan().any(-1)
        probabilities = torch.softmax(teacher_logits.nan_to_num() / temperature, dim=-1)
        losses = cross_entropy(logits.float() / temperature, probabilities, reduction="none")
        return (losses * known).sum() * temperature**2  # so that gradients are of a size at any temperature

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return (logits.argmax(-1) == teacher_logits.argmax(-1)).float()


class NextSentence(SingleLabel):
    """Does the second text follow the first? (arXiv 1810.04805, section 3.1, task 2)"""


class Tags(SingleLabel):
    """One class for each token; a word in pieces is labelled by its first."""


class MultiLabel(OutputLayer):
    """Any number of labels for each text, each by itself."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        present = targets.nan_to_num()
        losses = binary_cross_entropy_with_logits(logits.float(), present, reduction="none")
        losses = focal(losses, self.config.focal_gamma)
        if self.class_weights is not None:
            losses = losses * torch.where(present > 0, self.class_weights, 1.0)
        # The mean over labels, as in `transformers`, so that its size does not depend on how many there are.
        return losses.masked_fill(targets.isnan(), 0.0).mean(-1).sum()

    @property
    def averages(self) -> int:
        return len(self.config.labels)

    def count(self, targets: Tensor) -> int:
        return int((~targets.isnan().any(-1)).sum())

    def distillation_loss(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        probabilities = torch.sigmoid(teacher_logits.nan_to_num() / temperature)
        losses = binary_cross_entropy_with_logits(logits.float() / temperature, probabilities, reduction="none")
        return losses.masked_fill(teacher_logits.isnan(), 0.0).mean(-1).sum() * temperature**2

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """1 where all labels are the same, at a threshold of 0.5."""
        return ((logits > 0) == (teacher_logits > 0)).all(-1).float()


class Regression(OutputLayer):
    """A number for each text."""

    @staticmethod
    def width(config: OutputConfig) -> int:
        return 1

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        labelled = ~targets.isnan()
        return mse_loss(logits.float().squeeze(-1)[labelled], targets[labelled], reduction="sum")

    def count(self, targets: Tensor) -> int:
        return int((~targets.isnan()).sum())

    def distillation_loss(self, logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """The squared error, which knows no temperature."""
        return squared_distances(logits, teacher_logits).sum()

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """1 within half a standard deviation, the unit in which numbers are learned."""
        return ((logits - teacher_logits).abs() < 0.5).float().squeeze(-1)


class Vector(OutputLayer):
    """A sentence vector of another model, by a linear layer (arXiv 2509.12539, section 3)."""

    @staticmethod
    def width(config: OutputConfig) -> int:
        return config.width

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return squared_distances(logits, targets).sum()

    def count(self, targets: Tensor) -> int:
        return int((~targets.isnan().any(-1)).sum())

    def agreement(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """The cosine of the angle between two vectors."""
        return cosine_similarity(logits.float(), teacher_logits, dim=-1)


class Mahalanobis(OutputLayer):
    """How far a text is from the nearest class of another output layer, in what both read: the Mahalanobis distance to
    the class means under one covariance for all classes (arXiv 2101.03778, section 3.2).

    It is fitted to a trained model (`evaluation.rejection`), and moves no more after that.
    """

    def __init__(self, config: OutputConfig, encoder: EncoderConfig) -> None:
        nn.Module.__init__(self)  # there is nothing to project
        self.config = config
        hidden = encoder.hidden_size
        self.whitening = nn.Parameter(torch.eye(hidden), requires_grad=False)
        """(hidden, hidden): makes the covariance the identity, so that distances are Euclid's."""
        self.means = nn.Parameter(torch.zeros(len(config.labels), hidden), requires_grad=False)
        """(classes, hidden): the mean of each class, whitened."""

    @staticmethod
    def width(config: OutputConfig) -> int:
        return 1

    def forward(self, representation: Tensor) -> Tensor:
        """(n, hidden) → (n, 1): the distance to the nearest class."""
        whitened = linear(representation.float(), self.whitening)
        squares = whitened.square().sum(-1, keepdim=True) + self.means.square().sum(-1)
        squares = torch.addmm(squares, whitened, self.means.t(), alpha=-2)
        return squares.min(-1, keepdim=True).values.clamp(min=0).sqrt()

    @torch.no_grad()
    def distances(self, representation: np.ndarray) -> np.ndarray:
        """(n, hidden) → (n,), outside of a forward pass."""
        found = self(torch.from_numpy(representation).to(self.means.device))
        return found[:, 0].cpu().numpy()

    @property
    def multiplications(self) -> int:
        return self.whitening.numel() + self.means.numel()


class MaskedLM(OutputLayer):
    """Which word was hidden here? (arXiv 1810.04805, section 3.1, task 1)

    The weights from features to words are the token embeddings themselves; only a bias per word is its own.
    """

    def __init__(self, config: OutputConfig, encoder: EncoderConfig, token_embedding: nn.Embedding) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.class_weights = None
        self.transform = nn.Linear(encoder.hidden_size, encoder.hidden_size)
        self.activation = ACTIVATIONS[encoder.activation]
        self.norm = nn.LayerNorm(encoder.hidden_size, eps=encoder.norm_epsilon)
        self.token_embedding = token_embedding
        self.bias = nn.Parameter(torch.zeros(encoder.vocab_size))

    def forward(self, representation: Tensor) -> Tensor:
        """(masked, hidden) → (masked, vocabulary)."""
        transformed = self.transform(representation.to(self.transform.weight.dtype))
        features = self.norm(self.activation(transformed))
        return linear(features, self.token_embedding.weight, self.bias)

    @property
    def multiplications(self) -> int:
        return self.transform.weight.numel() + self.token_embedding.weight.numel()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.device.type == "cpu" and logits.dtype == torch.bfloat16:
            return SummedCrossEntropy.apply(logits, targets)
        return cross_entropy(logits.float(), targets, ignore_index=UNLABELLED, reduction="sum")


def squared_distances(logits: Tensor, targets: Tensor) -> Tensor:
    """Two of (n, width) → (n,); 0 where a target is NaN."""
    return torch.where(targets.isnan(), 0.0, logits.float() - targets).square().sum(-1)


def focal(losses: Tensor, gamma: float) -> Tensor:
    """Losses -log p, each times (1 - p)^gamma: what is right already counts less (arXiv 1708.02002, equation 4)."""
    if not gamma:
        return losses
    return losses * (-torch.expm1(-losses)).clamp(min=1e-6) ** gamma  # at 0 a power below 1 has no gradient


class SummedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of bf16 logits over a whole vocabulary, summed: (n, vocabulary), (n,) → scalar.

    Softmax, summed in fp32, and its gradient share one bf16 array; PyTorch's cross-entropy passes over five, most of
    them in fp32 (docs/decisions.md). A target's probability is a bf16, too, so its loss is right to 0.004.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        labelled = targets != UNLABELLED
        each = torch.arange(len(targets), device=targets.device), targets.where(labelled, 0)
        probabilities = torch.softmax(logits, dim=-1)
        ctx.save_for_backward(probabilities, labelled, *each)
        # One smaller than the smallest number would make the loss infinite; the gradient is none the worse.
        return -(probabilities[each].float().clamp(min=torch.finfo(torch.float32).tiny).log() * labelled).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        probabilities, labelled, *each = ctx.saved_tensors
        weights = (gradient * labelled).bfloat16()
        found = probabilities.mul_(weights.unsqueeze(-1))  # softmax(logits) - 1 at the target, weighted
        found[tuple(each)] -= weights
        return found, None


class OutputLayers(nn.ModuleList):
    """The output layers of a model, in order."""

    def __iter__(self) -> Iterator[OutputLayer]:
        return cast(Iterator[OutputLayer], super().__iter__())


KINDS: dict[str, type[OutputLayer]] = {
    "next_sentence": NextSentence,
    "single": SingleLabel,
    "multi": MultiLabel,
    "regression": Regression,
    "tags": Tags,
    "mahalanobis": Mahalanobis,
    "vector": Vector,
}


def logits_width(config: OutputConfig) -> int:
    """How many logits a prediction of the output layer has that `config` describes."""
    return KINDS[config.kind].width(config)


def build_output(config: OutputConfig, encoder: EncoderConfig, token_embedding: nn.Embedding) -> OutputLayer:
    """The output layer that `config` describes, with fresh weights."""
    if config.kind == "masked_lm":
        return MaskedLM(config, encoder, token_embedding)
    return KINDS[config.kind](config, encoder)
