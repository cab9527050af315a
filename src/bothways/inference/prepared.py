"""A model made ready to classify on a CPU, in PyTorch: the same logits from fewer passes over memory and less
arithmetic. It is used where there are no kernels (`inference.kernels`).

    prepared(bert)(batch, only=names) → logits by name          as bert(batch, only=names)

Three things differ from `model.encoder`; what each gains is in docs/decisions.md:

- Weights lie in memory as (in, out), not (out, in): for few tokens the matrix product is a fifth faster.
- A product is added to the residual where that lies (`addmm_`). The bias that belongs to the product is already in it,
  since the norm before has added it (`move_biases_into_norms`), so no pass over memory is for a sum alone.
- Where only first tokens are read, the last layer computes no keys and no values (`FirstTokenAttention`).
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from bothways.batch import PackedBatch
from bothways.model.attention import SelfAttention, packed_attention
from bothways.model.bert import Bert
from bothways.model.encoder import EncoderLayer


class Product:
    """What multiplies by the weights W of a linear layer whose bias is b."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight, self.bias = layer.weight.detach().t().contiguous(), layer.bias.detach()

    def __call__(self, given: Tensor) -> Tensor:
        """(n, in) → (n, out): W x + b."""
        return torch.addmm(self.bias, given, self.weight)

    def added_to(self, hidden: Tensor, given: Tensor) -> Tensor:
        """(n, out), (n, in) → (n, out): hidden + W x, where hidden lies."""
        return hidden.addmm_(given, self.weight)


class FirstTokenAttention:
    """Self-attention where only the first token of each sequence is read, without keys and values.

    With one query for each head and sequence it is cheaper to carry the query to the tokens than each token to a key:
    q · (W h + b) = (Wᵀ q) · h + q · b, whose last term is the same for all tokens of a sequence, so softmax drops it.
    And the weighted mean of values is the value of the weighted mean, as the weights p sum to 1:
    Σ p (W h + b) = W (Σ p h) + b. A token costs 4 · heads · hidden operations in place of 4 · hidden².
    """

    def __init__(self, attention: SelfAttention) -> None:
        heads, size = attention.heads, attention.head_size
        query, key, value = attention.query_key_value.weight.detach().chunk(3)
        self.query_bias, _, self.value_bias = attention.query_key_value.bias.detach().chunk(3)
        self.heads, self.scale = (heads, size), 1 / math.sqrt(size)
        self.query = query.t().contiguous()
        self.key = key.unflatten(0, (heads, size))  # (heads, head_size, hidden)
        self.value = value.unflatten(0, (heads, size)).mT.contiguous()  # (heads, hidden, head_size)

    def __call__(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """(tokens, hidden) → (sequences, hidden)."""
        query = torch.addmm(self.query_bias, hidden.index_select(0, batch.sequence_starts[:-1]), self.query)
        query = query.unflatten(-1, self.heads).transpose(0, 1)  # (heads, sequences, head_size)
        wanted = (query @ self.key).transpose(0, 1)  # (sequences, heads, hidden)
        runs = batch.runs
        parts = hidden.split([run.sequences * run.length for run in runs])
        means = []
        for run, part, wants in zip(runs, parts, wanted.split([run.sequences for run in runs]), strict=True):
            # All heads look at the same tokens, so to this kernel they are several queries of one head.
            tokens = part.unflatten(0, (run.sequences, 1, run.length))
            means.append(scaled_dot_product_attention(wants.unsqueeze(1), tokens, tokens, scale=self.scale))
        mean = torch.cat(means).squeeze(1).transpose(0, 1)  # (heads, sequences, hidden)
        return (mean @ self.value).transpose(0, 1).flatten(-2) + self.value_bias


def prepared(bert: Bert) -> Bert:
    """A copy of `bert` with the same logits (to 1e-5), faster: for inference on a CPU, and nothing else.

    It cannot be trained, saved or moved to another device, and shares its token embeddings with `bert`. Threads may
    share it: nothing in it changes.
    """
    table = bert.embeddings.token.weight
    shared = {id(table): table} if table.device.type == "cpu" and table.dtype == torch.float32 else {}
    ready = copy.deepcopy(bert, shared).cpu().float().eval()
    move_biases_into_norms(ready)
    layers = ready.encoder.layers
    for i, layer in enumerate(layers):
        assert isinstance(layer, EncoderLayer)
        last = i == len(layers) - 1
        layers[i] = PreparedLayer(layer, last=last)  # one at a time: two copies of one layer at most
    return ready


@torch.no_grad()
def move_biases_into_norms(bert: Bert) -> None:
    """Let each norm add the bias of the linear layer whose result will be added to its own: hidden' = hidden + b.

    Then `hidden + (W x + b)` is `hidden' + W x`. The linear layer that reads hidden' takes off what it sees too much:
    U hidden + c = U hidden' + (c - U b). The last norm is read by output layers and stays.
    """
    before = bert.embeddings.norm
    for layer in bert.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        attention, feed_forward = layer.attention, layer.feed_forward
        for norm, reads, adds in (
            (before, attention.query_key_value, attention.output),
            (layer.attention_norm, feed_forward.expand, feed_forward.contract),
        ):
            norm.bias.add_(adds.bias)
            reads.bias.sub_(reads.weight @ adds.bias)
        before = layer.feed_forward_norm


class PreparedLayer(nn.Module):
    """An `EncoderLayer` after `move_biases_into_norms`, called the same way; it overwrites the `hidden` it is given."""

    def __init__(self, layer: EncoderLayer, *, last: bool) -> None:
        super().__init__()
        attention, feed_forward = layer.attention, layer.feed_forward
        self.heads = (3, attention.heads, attention.head_size)
        self.query_key_value, self.output = Product(attention.query_key_value), Product(attention.output)
        self.first_token_attention = FirstTokenAttention(attention) if last else None
        self.attention_norm = layer.attention_norm
        self.expand, self.contract = Product(feed_forward.expand), Product(feed_forward.contract)
        self.activation = feed_forward.activation
        self.feed_forward_norm = layer.feed_forward_norm

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden) for the tokens at `read` only."""
        if read is not None and self.first_token_attention and torch.equal(read, batch.sequence_starts[:-1]):
            context = self.first_token_attention(hidden, batch)
        else:
            query_key_value = self.query_key_value(hidden)
            context = packed_attention(query_key_value.unflatten(-1, self.heads), batch).flatten(-2)
            context = context if read is None else context.index_select(0, read)
        hidden = hidden if read is None else hidden.index_select(0, read)
        hidden = normalised(self.output.added_to(hidden, context), self.attention_norm)
        wide = self.activation(self.expand(hidden))
        return normalised(self.contract.added_to(hidden, wide), self.feed_forward_norm)


def normalised(hidden: Tensor, norm: nn.LayerNorm) -> Tensor:
    """(n, hidden) → (n, hidden): `norm` without what calling a module costs."""
    return layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
