"""The Transformer encoder: layers of self-attention and feed-forward parts (arXiv 1706.03762, figure 1, left)."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from bothways.batch import PackedBatch
from bothways.model.attention import SelfAttention
from bothways.model.config import EncoderConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "relu": relu,
}


class FeedForward(nn.Module):
    """Two linear layers with a non-linearity between, on each token alone."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.activation = ACTIVATIONS[config.activation]
        self.contract = nn.Linear(config.feed_forward_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(tokens, hidden) → (tokens, hidden)."""
        return self.contract(self.activation(self.expand(hidden)))


class EncoderLayer(nn.Module):
    """Attention, then feed-forward, each added to its input and normalised after the sum, as in the paper."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden) for the tokens at `read` only."""
        attended = self.attention(hidden, batch, read)
        return self.after_attention(hidden if read is None else hidden.index_select(0, read), attended)

    def after_attention(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer, in which no token sees another: two of (tokens, hidden) → (tokens, hidden)."""
        hidden = self.attention_norm(hidden + self.dropout(attended))
        return self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden).

        With `read` (positions of tokens) the last layer is computed for these tokens only: every token is still looked
        at, but three quarters of that layer's arithmetic is saved for those that no output layer reads.
        """
        *first, last = self.layers
        for layer in first:
            hidden = layer(hidden, batch)
        return last(hidden, batch, read)
