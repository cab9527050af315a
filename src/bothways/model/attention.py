"""Multi-head self-attention over sequences laid end to end (arXiv 1706.03762, section 3.2.2).

This is the only place that knows where a sequence ends. Unlike the paper's, its probabilities have no dropout: the
fused kernels of CPUs and those of variable length do not offer it, and what attention adds to a token has dropout.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from bothways.batch import PackedBatch
from bothways.model.config import EncoderConfig


class SelfAttention(nn.Module):
    """Every token looks at all tokens of its own sequence."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_size = config.head_size
        # One matrix for the three projections: one large product is faster than three small ones.
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden) for the tokens at `read` only."""
        query_key_value = self.query_key_value(hidden).unflatten(-1, (3, self.heads, self.head_size))
        context = packed_attention(query_key_value, batch).flatten(-2)
        return self.output(context if read is None else context.index_select(0, read))


def packed_attention(query_key_value: Tensor, batch: PackedBatch) -> Tensor:
    """softmax(Q Kᵀ / √d) V within each sequence: (tokens, 3, heads, head_size) → (tokens, heads, head_size).

    On CUDA in 16 bits it is one call of variable-length flash attention (arXiv 2307.08691), on a CPU in bf16 one call
    on rows, everywhere else one call for each run.
    """
    if query_key_value.is_cuda and query_key_value.dtype in (torch.bfloat16, torch.float16):
        starts, longest = batch.sequence_starts.to(torch.int32), batch.longest
        query, key, value = query_key_value.unbind(1)
        context = varlen_attn(query, key, value, starts, starts, longest, longest)
        assert isinstance(context, Tensor), "nothing but the context was asked for"
        return context
    if query_key_value.device.type == "cpu" and query_key_value.dtype == torch.bfloat16:
        return attention_in_rows(query_key_value, batch)
    return attention_in_runs(query_key_value, batch)


def attention_in_runs(query_key_value: Tensor, batch: PackedBatch) -> Tensor:
    """Runs of equally long sequences are rectangles, so each is one call without mask or padding.

    Cutting with `split` and not with slices matters in training: the gradient of one split is one concatenation, that
    of n slices is n full-size tensors of zeros.
    """
    sizes = [run.sequences * run.length for run in batch.runs]
    attended = []
    for run, part in zip(batch.runs, query_key_value.split(sizes), strict=True):
        # (sequences, length, 3, heads, head_size) → three of (sequences, heads, length, head_size), all views
        query, key, value = part.unflatten(0, (run.sequences, run.length)).permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(query, key, value)
        attended.append(context.transpose(1, 2).flatten(0, 1))  # (sequences * length, heads, head_size)
    return attended[0] if len(attended) == 1 else torch.cat(attended)


def attention_in_rows(query_key_value: Tensor, batch: PackedBatch) -> Tensor:
    """Sequences side by side in rows of one width, and a score of -inf for tokens of different ones: one call of few
    shapes, where every new shape would cost more than what is computed for nothing.

    Written out, because in bf16 on a CPU the fused kernel is about twice as slow forward and 3 to 10 times backward
    (docs/decisions.md for both).
    """
    rows = batch.rows
    known = sum(batch.lengths)
    in_rows = Rearranged.apply(query_key_value, rows.token_of_slot, rows.slot_of_token, known)
    # (rows, width, 3, heads, head_size) → three of (rows, heads, width, head_size)
    query, key, value = in_rows.unflatten(0, (rows.number, rows.width)).permute(2, 0, 3, 1, 4)
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    context = torch.softmax(scores.add_(rows.attention_bias.unsqueeze(1)), dim=-1) @ value
    context = context.transpose(1, 2).flatten(0, 1)
    return Rearranged.apply(context, rows.slot_of_token, rows.token_of_slot, len(context))


def attention_probabilities(query_key_value: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) of one sequence, to be looked at: (tokens, 3, heads, head_size) → (heads, tokens, tokens).

    Entry (h, i, j) is how much of token j head h adds to token i. The ways above never write it down.
    """
    query, key, _ = query_key_value.float().permute(1, 2, 0, 3)  # three of (heads, tokens, head_size)
    return torch.softmax((query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2), dim=-1)


class Rearranged(torch.autograd.Function):
    """`given[chosen]`: (n, …) → (m, …). Its gradient is read back through `inverse` in place of being summed.

    That is right because every entry that counts is chosen exactly once. Empty slots repeat entry 0, and filler, the
    entries of `given` from `known` on, counts for nothing: neither gets a gradient.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, chosen: Tensor, inverse: Tensor, known: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.known = known
        return given.index_select(0, chosen)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        found = gradient.index_select(0, *ctx.saved_tensors)
        found[ctx.known :] = 0
        return found, None, None, None
