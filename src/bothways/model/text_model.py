"""What the training loop needs of a model; `Bert` is one, and what it is compared with is trained the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TypeVar

from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.model.outputs import OutputLayers


class TextModel(nn.Module, ABC):
    """A packed batch → logits of named output layers, by way of token embeddings and an encoder."""

    outputs: OutputLayers
    encoder: nn.Module
    """What lies between embeddings and output layers; Muon moves its matrices."""

    @property
    @abstractmethod
    def token_embedding(self) -> nn.Embedding:
        """The vectors of the vocabulary; on a CPU their gradient comes as the few rows of a batch."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The layers of the encoder, if they can be sharded, and compiled from `after_attention` on."""
        return ()

    @abstractmethod
    def forward(self, batch: PackedBatch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """A packed batch → the logits of each output layer (or of those named in `only`), by name."""

    @abstractmethod
    def multiplications(self, batch: PackedBatch) -> float:
        """How many a forward pass over `batch` takes in matrix products."""


Model = TypeVar("Model", bound=TextModel)
"""One kind of `TextModel`: what goes in comes out."""
