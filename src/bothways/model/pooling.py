"""From the tokens of a sequence to one vector for the whole of it, and from the windows of a text to one for all."""

import torch
from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.model.config import EncoderConfig


class FirstTokenPooling(nn.Module):
    """A dense layer and tanh on the first token, [CLS], as published (arXiv 1810.04805, section 3)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_tokens: Tensor) -> Tensor:
        """(sequences, hidden) → (sequences, hidden)."""
        return torch.tanh(self.dense(first_tokens.to(self.dense.weight.dtype)))


def mean_pooling(hidden: Tensor, batch: PackedBatch) -> Tensor:
    """The mean over all tokens of a sequence (arXiv 1908.10084, section 3).

    (tokens, hidden) → (sequences, hidden), in fp32.
    """
    sums = hidden.new_zeros(len(batch.sequence_starts) - 1, hidden.shape[-1], dtype=torch.float32)
    sums = sums.index_add(0, batch.sequence_of_token, hidden.float())
    return sums / batch.sequence_starts.diff().unsqueeze(-1)


def mean_of_windows(representations: Tensor, batch: PackedBatch) -> Tensor:
    """The mean over the sequences of each text (arXiv 1905.05583, section 3.1: mean pooling of fractions).

    (sequences, hidden) → (texts, hidden), in fp32 where a text has several; a text of none, which is filler, gets 0.
    """
    if batch.text_starts is None:
        return representations
    sums = representations.new_zeros(batch.size("first"), representations.shape[-1], dtype=torch.float32)
    sums = sums.index_add(0, batch.text_of_sequence, representations.float())
    return sums / batch.text_starts.diff().clamp(min=1).unsqueeze(-1)
