"""Token + segment + position embeddings (arXiv 1810.04805, figure 2)."""

from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.model.config import EncoderConfig


class Embeddings(nn.Module):
    """The sum of three looked-up vectors per token, normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: PackedBatch) -> Tensor:
        """A packed batch → (tokens, hidden)."""
        return self.combine(self.token(batch.token_ids), batch)

    def combine(self, token_vectors: Tensor, batch: PackedBatch) -> Tensor:
        """The vectors of the tokens, (tokens, hidden), with the two others added and normalised → (tokens, hidden)."""
        summed = token_vectors + self.segment(batch.segment_ids) + self.position(batch.positions)
        return self.dropout(self.norm(summed))
