"""Linear layers in int8 on a CPU: what a token is multiplied with has 8 bits, and so has the token.

    W x + b  ≈  scale of x · (scales of W · (integers of W × integers of x)) + b

- Weights are rounded once, each output channel with a scale of its own (arXiv 1806.08342, section 3.1).
- Activations are rounded as they come, each token with a scale of its own, so that none depends on its neighbours
  (arXiv 2206.01861, section 4: token-wise).
- Integers are summed in 32 bits, which is exact; everything else (sums, norms, softmax, activations) stays in fp32.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import round_up_coarsely
from bothways.inference.prepared import Products, prepared
from bothways.model.bert import Bert
from bothways.model.encoder import EncoderLayer

SMALLEST = 1e-30
"""The scale of a token of nothing but zeros."""
BELOW_ZERO = 1 / 10
"""Share of the integers that stand for numbers below zero after an activation: GELU gives none below -0.17."""


def in_int8(bert: Bert, bits: int) -> Bert:
    """A copy of `bert` made ready for inference, as `prepared`, with the linear layers of its encoder in int8.

    `bits` of activations, 7 or 8: see `hardware.int8_bits`.
    """
    # Sums in fp32 differ in their last digit with the number of rows, which could turn what is rounded after them.
    return prepared(bert, partial(products, bits=bits), first_token_attention=None)


def products(layer: EncoderLayer, bits: int) -> Products:
    """The products of an encoder layer in int8."""
    attention, feed_forward = layer.attention, layer.feed_forward
    middle, low = 1 << (bits - 1), int(BELOW_ZERO * (1 << bits))
    return Products(
        Rounded(attention.query_key_value, bits, middle),
        Rounded(attention.output, bits, middle),
        Rounded(feed_forward.expand, bits, middle),
        Rounded(feed_forward.contract, bits, low),
    )


class Rounded:
    """A product in int8; see `prepared.Product`."""

    def __init__(self, layer: nn.Linear, bits: int, zero: int) -> None:
        """`zero`: the integer that stands for 0 in activations, which are from 0 to 2^bits - 1."""
        weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.scales = weight.abs().amax(1).div_(127).clamp_min_(SMALLEST)  # (out,)
        integers = (weight / self.scales.unsqueeze(1)).round_().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.zero, self.top = zero, (1 << bits) - 1

    def __call__(self, given: Tensor) -> Tensor:
        """(n, in) → (n, out): W x + b."""
        return torch.addcmul(self.bias, *self.unscaled(given))

    def added_to(self, hidden: Tensor, given: Tensor) -> Tensor:
        """(n, out), (n, in) → (n, out): hidden + W x, where hidden lies."""
        return hidden.addcmul_(*self.unscaled(given))

    def unscaled(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """(n, in) → W x as (n, out) and (n, 1), to be multiplied."""
        integers, scale = self.rounded(given)
        product = torch.ops.onednn.qlinear_pointwise(
            integers, 1.0, self.zero, self.weight, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product[: len(given)], scale

    def rounded(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """(n, in) → uint8 integers (n or more, in) and the scale of each row (n, 1): x ≈ (integers - zero) · scale.

        Rows of no meaning follow, so that there are few shapes: oneDNN makes code for each, in about a millisecond.
        """
        high = given.amax(-1, keepdim=True).div_(self.top - self.zero)
        low = given.amin(-1, keepdim=True).div_(-self.zero)
        scale = torch.maximum(high, low).clamp_min_(SMALLEST)
        integers = torch.empty(round_up_coarsely(len(given), least=16), given.shape[1], dtype=torch.uint8)
        # Conversion drops what is behind the point, so half of 1 on top rounds to the nearest. NumPy does both in one
        # pass over memory, PyTorch in two, the second of them slow.
        steps = given.mul(scale.reciprocal()).numpy()
        np.add(steps, np.float32(self.zero + 0.5), out=integers[: len(given)].numpy(), casting="unsafe")
        return integers, scale
