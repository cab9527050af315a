"""The encoder on an x86 processor as one call for all layers, in fp32, int16 or int8: the same `Bert`, faster.

    with_kernels(bert, "int16")(batch, only=names) → logits by name          as bert(batch, only=names)

What is computed, and why so, is said in csrc/encoder.c; here the weights are laid out for it. In integers

    W x + b  ≈  scale of x · (scales of W · (integers of W × integers of x)) + minimum of x · (sums of W) + b

- Weights are quantized once, each output channel with a scale of its own (arXiv 1806.08342, section 3.1) for each group
  of neighbouring inputs (as in arXiv 2210.17323, section 4).
- Activations are quantized as they come, each token's groups from their smallest to their largest number, so that none
  depends on its neighbours (arXiv 2206.01861, section 4: token-wise).
- Attention is in int16 in both: a scale for each query and key, and one for each dimension of a text's values.
- Integers are multiplied and summed exactly; everything else (sums, norms, softmax, activations) stays in fp32.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

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
"""Output channels in a panel, by what instructions there are, from the fewest on."""
WEIGHT_MAX = {"int16": 1023, "int8": 127}
LARGEST_GROUP = 1024
"""In int16 so many products of weights up to 1,023 and activations up to 2,047 fit into 32 bits."""
ALIGNED, SMALLEST = 64, 1e-30
"""Bytes that memory begins at a multiple of, and the scale of nothing but zeros."""


def with_kernels(bert: Bert, number_format: KernelFormat, instructions: str | None = None) -> Bert:
    """A copy of `bert` whose encoder is one call: for inference on a CPU, and nothing else.

    Logits are those of `bert` in fp32 to 1e-5; in int16 and int8 the number of bits decides. It shares its token
    embeddings with `bert`. Threads may share it: nothing in it changes. `instructions`: those to use, if not the best
    of this processor. Raises ValueError if they are not here, or if the encoder does not fit (`fits`).
    """
    best = vector_instructions()
    instructions = instructions or best
    if not fits(bert.config.encoder) or list(PANELS).index(instructions) > list(PANELS).index(best):
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
        self.config, self.number_format = config, number_format
        self.panel, self.instructions = PANELS[instructions], list(PANELS).index(instructions) + 1
        self.group_size = group_size_of(config, number_format)
        self.laid_out = [self.layer(layer) for layer in encoder.layers if isinstance(layer, EncoderLayer)]
        self._point()

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """(tokens, hidden) → (tokens, hidden), or (read, hidden) for the tokens at `read` only.

        Only where these are the first tokens is the last layer computed for them alone. Raises ValueError for what is
        not the embeddings of a packed batch, on the CPU in float32 and without gradients; MemoryError.
        """
        starts, width = batch.sequence_starts.contiguous(), self.config.hidden_size
        sound = hidden.dtype == torch.float32 and hidden.device.type == "cpu" and hidden.is_contiguous()
        whole = starts.dtype == torch.int64 and starts[0] == 0 and bool((starts.diff() > 0).all())
        if not sound or not whole or hidden.shape != (starts[-1], width) or hidden.requires_grad:
            raise ValueError("not the embeddings of a packed batch, on the CPU in float32 and without gradients")
        first = read is not None and torch.equal(read, starts[:-1])
        firsts = hidden.new_empty(len(starts) - 1, width) if first else None
        library, threads = kernels(), shared_threads()
        assert library is not None, "fits"
        failed = library.encode(
            addressof(self.structure),
            None if threads is None else addressof(threads),
            1 if threads is None else torch.get_num_threads(),
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

    def layer(self, layer: EncoderLayer) -> LaidOutLayer:
        """The weights of a layer as encoder.c reads them."""
        attention, feed_forward = layer.attention, layer.feed_forward
        linear = (attention.query_key_value, attention.output, feed_forward.expand, feed_forward.contract)
        norms = (layer.attention_norm, layer.feed_forward_norm)
        return LaidOutLayer(
            [self.linear(part) for part in linear], [[in_numpy(norm.weight), in_numpy(norm.bias)] for norm in norms]
        )

    def linear(self, layer: nn.Linear) -> LaidOutLinear:
        """A linear layer, its output channels in panels."""
        weight, bias = in_numpy(layer.weight), in_numpy(layer.bias)
        outputs, inputs = weight.shape
        if self.number_format == "fp32":
            panels = weight.reshape(outputs // self.panel, self.panel, inputs).swapaxes(1, 2)
            return LaidOutLinear([aligned(panels), None, None, bias], inputs, outputs)
        quantized, scales = quantize(weight, self.group_size, WEIGHT_MAX[self.number_format])
        dtype, together = (np.int8, 4) if self.number_format == "int8" else (np.int16, 2)
        words = quantized.astype(dtype).reshape(outputs // self.panel, self.panel, inputs // together, together)
        sums = quantized.reshape(*scales.shape, self.group_size).sum(-1) * scales
        arrays = [aligned(words.swapaxes(1, 2)), np.ascontiguousarray(scales.T), np.ascontiguousarray(sums.T), bias]
        return LaidOutLinear(arrays, inputs, outputs)

    def _point(self) -> None:
        """Make the structures of encoder.c, which point into `laid_out`."""
        config = self.config
        self.structures = (LayerWeights * len(self.laid_out))(*(layer.structure() for layer in self.laid_out))
        self.structure = EncoderWeights(
            addressof(self.structures),
            config.layers,
            config.hidden_size,
            config.heads,
            config.feed_forward_size,
            FORMATS[self.number_format],
            self.group_size,
            ACTIVATIONS[config.activation],
            config.norm_epsilon,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without pointers, which mean nothing in another process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("structures", "structure")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Points anew."""
        super().__setstate__(state)
        self._point()

    def __deepcopy__(self, memo: dict[int, Any]) -> KernelEncoder:
        """Itself, since nothing in it changes."""
        return self


@dataclass(frozen=True)
class LaidOutLinear:
    """A linear layer in memory."""

    arrays: Sequence[np.ndarray | None]
    """weight, scale, sum and bias, as `Linear` of encoder.c says."""
    inputs: int
    outputs: int

    def structure(self) -> LinearWeights:
        """What points to it."""
        return LinearWeights(*(None if a is None else a.ctypes.data for a in self.arrays), self.inputs, self.outputs)


@dataclass(frozen=True)
class LaidOutLayer:
    """A layer in memory."""

    linear: Sequence[LaidOutLinear]
    norms: Sequence[Sequence[np.ndarray]]
    """weight and bias of each."""

    def structure(self) -> LayerWeights:
        """What points to it."""
        norms = (NormWeights(*(array.ctypes.data for array in norm)) for norm in self.norms)
        return LayerWeights(*(part.structure() for part in self.linear), *norms)


def aligned(array: np.ndarray) -> np.ndarray:
    """The same numbers in memory that begins at a multiple of `ALIGNED` bytes, flat."""
    room = np.empty(array.nbytes + ALIGNED, np.uint8)
    begin = -room.ctypes.data % ALIGNED
    found = room[begin : begin + array.nbytes].view(array.dtype)
    found[:] = array.ravel()
    return found


def in_numpy(tensor: Tensor) -> np.ndarray:
    """A copy of the numbers, in float32."""
    return tensor.detach().cpu().float().contiguous().numpy().copy()


def group_size_of(config: EncoderConfig, number_format: KernelFormat) -> int:
    """How many neighbouring inputs share a scale: whole groups for every linear layer, and a multiple of 64.

    In int8 few, since one large number takes the steps of all; in int16 as many as can be summed exactly.
    """
    common = math.gcd(config.hidden_size, config.feed_forward_size)
    if number_format == "int16" and common <= LARGEST_GROUP:
        return common
    return 128 if common % 128 == 0 else 64


def quantize(weight: np.ndarray, group_size: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """(out, in) → integers from -largest to largest, (out, in) float32, and the scale of each group, (out, groups)."""
    groups = weight.reshape(len(weight), -1, group_size)
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
        *((name, c_void_p) for name in ("weight", "scale", "sum", "bias")),
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
        *(
            (name, c_int64)
            for name in ("layers", "hidden", "heads", "feed_forward", "format", "group_size", "activation")
        ),
        ("norm_epsilon", c_float),
    ]
