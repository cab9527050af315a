"""From the tokens of a sequence to one vector for the whole of it."""

import torch
from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.model.config import EncoderConfig


class FirstTokenPooling(nn.Module):
    """A dense layer and tanh on the first token, [CLS], as published (arXiv 1810.04805, section 3)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(tokens, hidden) → (sequences, hidden)."""
        first = hidden[batch.sequence_starts[:-1]]
        return torch.tanh(self.dense(first.to(self.dense.weight.dtype)))


class MeanPooling(nn.Module):
    """The mean over all tokens of a sequence (arXiv 1908.10084, section 3)."""

    def forward(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(tokens, hidden) → (sequences, hidden), in fp32."""
        sums = hidden.new_zeros(len(batch.lengths), hidden.shape[-1], dtype=torch.float32)
        sums = sums.index_add(0, batch.sequence_of_token, hidden.float())
        return sums / batch.sequence_starts.diff().unsqueeze(-1)
