"""The encoder on an x86 processor as one call for all layers, in fp32, int16 or int8: the same `Bert`, faster.

    with_kernels(bert, "int16")(batch, only=names) → logits by name          as bert(batch, only=names)

What is computed, and why so, is said in csrc/encoder.c; here the weights are laid out for it. In integers

    W x + b  ≈  scale of x · (scales of W · (integers of W × integers of x)) + smallest x · (sums of W) + b

- Weights are rounded once, each output channel with a scale of its own (arXiv 1806.08342, section 3.1) for each group
  of neighbouring inputs (as in arXiv 2210.17323, section 4).
- Activations are rounded as they come, each token's groups from their smallest to their largest number, so that none
  depends on its neighbours (arXiv 2206.01861, section 4: token-wise).
- Integers are multiplied and summed exactly; everything else (sums, norms, softmax, activations) stays in fp32.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_int64, c_void_p
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.hardware import kernels, openmp, vector_instructions
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig
from bothways.model.encoder import Encoder, EncoderLayer

KernelFormat = Literal["fp32", "int16", "int8"]
FORMATS: dict[KernelFormat, int] = {"fp32": 0, "int16": 1, "int8": 2}
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "relu": 2}
PANELS = {"AVX2": 16, "AVX-512 VNNI": 64}
"""Output channels in a panel."""
LARGEST = {"int16": 1023, "int8": 127}
"""The largest integer of a weight. In int16, so that 1,024 products with activations up to 2,047 fit into 32 bits."""
ALIGNED, SMALLEST = 64, 1e-30
"""Bytes that memory begins at a multiple of, and the scale of nothing but zeros."""


def with_kernels(bert: Bert, number_format: KernelFormat, instructions: str | None = None) -> Bert:
    """A copy of `bert` whose encoder is one call: for inference on a CPU, and nothing else.

    Logits are those of `bert` in fp32 to 1e-5; in int16 and int8 the number of bits decides. It shares its token
    embeddings with `bert`. Threads may share it: nothing in it changes. `instructions`: those to use, if not the
    best of this processor. Raises ValueError if the encoder does not fit (`fits`).
    """
    instructions = instructions or vector_instructions()
    if not fits(bert.config.encoder):
        raise ValueError("there are no kernels for this encoder on this machine")
    encoder = KernelEncoder(bert.encoder, bert.config.encoder, number_format, instructions)
    table = bert.embeddings.token.weight
    shared = {id(table): table} if table.device.type == "cpu" and table.dtype == torch.float32 else {}
    return copy.deepcopy(bert, {id(bert.encoder): encoder, **shared}).cpu().float().eval()


def fits(config: EncoderConfig) -> bool:
    """Whether there are kernels on this machine, for an encoder of this shape: one of whole panels and vectors."""
    whole = config.hidden_size % 64 == 0 and config.feed_forward_size % 64 == 0 and config.head_size % 16 == 0
    return bool(vector_instructions()) and bool(config.layers) and whole


class KernelEncoder(nn.Module):
    """An `Encoder`, called the same way; it overwrites the `hidden` it is given."""

    def __init__(self, encoder: Encoder, config: EncoderConfig, number_format: KernelFormat, instructions: str) -> None:
        super().__init__()
        self.layers = ()  # none that could be looked into
        self.memory: list[np.ndarray] = []
        """What the structures point to."""
        self.number_format, self.panel = number_format, PANELS[instructions]
        self.instructions = list(PANELS).index(instructions) + 1
        self.hidden_size = config.hidden_size
        self.group = group_of(config, number_format)
        layers = [self.laid_out(layer) for layer in encoder.layers if isinstance(layer, EncoderLayer)]
        self.structures = (LayerWeights * len(layers))(*layers)
        self.structure = EncoderWeights(
            addressof(self.structures),
            config.layers,
            config.hidden_size,
            config.heads,
            config.feed_forward_size,
            FORMATS[number_format],
            self.group,
            ACTIVATIONS[config.activation],
            config.norm_epsilon,
        )

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden) for the tokens at `read` only."""
        starts = batch.sequence_starts.contiguous()
        assert (hidden.dtype, starts.dtype) == (torch.float32, torch.int64)
        assert hidden.shape == (starts[-1], self.hidden_size)
        assert hidden.is_contiguous()
        first = read is not None and torch.equal(read, starts[:-1])
        firsts = hidden.new_empty(len(starts) - 1, self.hidden_size) if first else None
        library, openmp_functions = kernels(), shared_threads()
        assert library is not None
        failed = library.encode(
            addressof(self.structure),
            None if openmp_functions is None else addressof(openmp_functions),
            1 if openmp_functions is None else torch.get_num_threads(),
            self.instructions,
            starts.data_ptr(),
            len(starts) - 1,
            hidden.data_ptr(),
            None if firsts is None else firsts.data_ptr(),
        )
        if failed:
            raise MemoryError("no memory for a batch")
        if firsts is not None:
            return firsts
        return hidden if read is None else hidden.index_select(0, read)

    def laid_out(self, layer: EncoderLayer) -> LayerWeights:
        """The weights of a layer as encoder.c reads them."""
        attention, feed_forward = layer.attention, layer.feed_forward
        linear = (attention.query_key_value, attention.output, feed_forward.expand, feed_forward.contract)
        norms = (layer.attention_norm, layer.feed_forward_norm)
        return LayerWeights(
            *map(self.linear, linear), *(NormWeights(self.kept(n.weight), self.kept(n.bias)) for n in norms)
        )

    def linear(self, layer: nn.Linear) -> LinearWeights:
        """A linear layer, its output channels in panels."""
        weight, bias = in_numpy(layer.weight), self.kept(layer.bias)
        outputs, inputs = weight.shape
        if self.number_format == "fp32":
            panels = weight.reshape(outputs // self.panel, self.panel, inputs).swapaxes(1, 2)
            return LinearWeights(self.kept(panels), None, None, bias, inputs, outputs)
        integers, scales = rounded(weight, self.group, LARGEST[self.number_format])
        kind, together = (np.int8, 4) if self.number_format == "int8" else (np.int16, 2)
        whole = integers.astype(kind).reshape(outputs // self.panel, self.panel, inputs // together, together)
        sums = integers.reshape(*scales.shape, self.group).sum(-1) * scales
        return LinearWeights(
            self.kept(whole.swapaxes(1, 2)), self.kept(scales.T), self.kept(sums.T), bias, inputs, outputs
        )

    def kept(self, numbers: np.ndarray | Tensor) -> int:
        """The address of a copy, which begins at a multiple of `ALIGNED` bytes."""
        found = in_numpy(numbers) if isinstance(numbers, Tensor) else numbers
        room = np.empty(found.nbytes + ALIGNED, np.uint8)
        begin = -room.ctypes.data % ALIGNED
        room[begin : begin + found.nbytes].view(found.dtype)[:] = found.ravel()
        self.memory.append(room)
        return room.ctypes.data + begin


def in_numpy(tensor: Tensor) -> np.ndarray:
    """The same numbers in float32."""
    return tensor.detach().cpu().float().numpy()


def group_of(config: EncoderConfig, number_format: KernelFormat) -> int:
    """How many neighbouring inputs share a scale: whole groups for every linear layer, and a multiple of 64.

    In int8 few, since one large number takes the steps of all; in int16 as many as can be summed exactly.
    """
    common = math.gcd(config.hidden_size, config.feed_forward_size)
    if number_format == "int16" and common <= 1024:
        return common
    return 128 if common % 128 == 0 else 64


def rounded(weight: np.ndarray, group: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """(out, in) → integers from -largest to largest, (out, in) float32, and the scale of each group, (out, groups)."""
    groups = weight.reshape(len(weight), -1, group)
    scales = np.maximum(np.abs(groups).max(-1) / np.float32(largest), np.float32(SMALLEST))
    return np.rint(groups / scales[..., None]).reshape(weight.shape), scales


@cache
def shared_threads() -> OpenMPFunctions | None:
    """The functions by which PyTorch shares out work over its threads; None if its library has no such: one thread."""
    library = openmp()
    try:
        return OpenMPFunctions(*(ctypes.cast(getattr(library, name), c_void_p) for name in OpenMPFunctions.names))
    except AttributeError:
        return None


class OpenMPFunctions(Structure):
    """`OpenMP` of encoder.c."""

    names: ClassVar[Sequence[str]] = ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads")
    _fields_: ClassVar = [(name, c_void_p) for name in names]


class LinearWeights(Structure):
    """`Linear` of encoder.c."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("weight", "scale", "zero", "bias")),
        ("inputs", c_int64),
        ("outputs", c_int64),
    ]


class NormWeights(Structure):
    """`Norm` of encoder.c."""

    _fields_: ClassVar = [("weight", c_void_p), ("bias", c_void_p)]


class LayerWeights(Structure):
    """`Layer` of encoder.c."""

    _fields_: ClassVar = [
        *((name, LinearWeights) for name in ("query_key_value", "output", "expand", "contract")),
        ("attention_norm", NormWeights),
        ("feed_forward_norm", NormWeights),
    ]


class EncoderWeights(Structure):
    """`Encoder` of encoder.c."""

    _fields_: ClassVar = [
        ("layer", c_void_p),
        *((name, c_int64) for name in ("layers", "hidden", "heads", "feed_forward", "format", "group", "activation")),
        ("norm_epsilon", c_float),
    ]
