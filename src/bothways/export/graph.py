"""A model as a graph of ONNX: padded batches in, the logits of each output layer out, by its name.

    input_ids, attention_mask, token_type_ids   (batch, length) int64, as every BERT of the field has them
    NAME                                        (batch, width) float32; (batch, length, width) where tokens are read

The graph is written out node by node: the encoder is a dozen operators, and no tracer has to guess at them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import singledispatch
from typing import Any

from bothways.batch import Reads
from bothways.errors import InputError
from bothways.export.onnx_builder import OnnxBuilder
from bothways.model.attention import SelfAttention
from bothways.model.bert import Bert
from bothways.model.encoder import EncoderLayer, FeedForward
from bothways.model.outputs import Mahalanobis, OutputLayer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IN_FP32 = ("/pooling/", "/outputs/")
"""How the names of nodes begin that stay in fp32: little work, and scores deserve their digits."""
MASKED = -10000.0
"""Added to the score of padding, as published (google-research/bert, modeling.py): nothing is left of it after softmax,
in 16 bits neither."""


def to_onnx(bert: Bert, outputs: Collection[str]) -> Any:
    """`bert` with the output layers named in `outputs` as an `onnx.ModelProto` of any batch and length.

    Raises InputError for an output layer with the name of an input, and for more than two gigabytes of weights.
    """
    layers = [layer for layer in bert.outputs if layer.config.name in outputs]
    for layer in layers:
        if layer.config.name in INPUTS or layer.config.name.startswith("/"):
            raise InputError(
                f"Output {layer.config.name!r} has a name that the graph needs for itself; train it with another "
                f"(--output NAME=COLUMN:KIND)."
            )
    graph = OnnxBuilder()
    hidden = encoded(graph, bert)
    read = representations(graph, bert, hidden, {layer.config.reads for layer in layers})
    logits: dict[str, tuple[str, list[Any]]] = {}
    for layer in layers:
        config = layer.config
        graph.part(f"outputs/{config.name}")
        shape: list[Any] = ["batch", "length"] if config.reads == "tokens" else ["batch"]
        logits[config.name] = logits_of(layer, graph, read[config.reads]), [*shape, layer.width(config)]
    return graph.finished({name: ["batch", "length"] for name in INPUTS}, logits)


def encoded(graph: OnnxBuilder, bert: Bert) -> str:
    """→ (batch, length, hidden)"""
    graph.part("embeddings")
    tables = bert.embeddings
    token = graph.add("Gather", graph.constant(tables.token.weight, "token.weight"), "input_ids")
    segment = graph.add("Gather", graph.constant(tables.segment.weight, "segment.weight"), "token_type_ids")
    length = graph.add("Shape", "input_ids", start=1, end=2)
    places = graph.constant(tables.position.weight, "position.weight")
    position = graph.add("Slice", places, graph.constant([0]), length)
    hidden = graph.norm(tables.norm, graph.add("Add", graph.add("Add", token, segment), position), "norm")
    graph.part("mask")
    padding = graph.add("Sub", graph.constant(1.0), graph.add("Cast", "attention_mask", to=1))
    bias = graph.add("Mul", padding, graph.constant(MASKED))
    bias = graph.add("Unsqueeze", bias, graph.constant([1, 2]))  # (batch, heads, query, key)
    for i, layer in enumerate(bert.encoder.layers):
        assert isinstance(layer, EncoderLayer)
        graph.part(f"encoder/{i}/attention")
        attended = attention(graph, layer.attention, hidden, bias)
        hidden = graph.norm(layer.attention_norm, graph.add("Add", hidden, attended), "norm")
        graph.part(f"encoder/{i}/feed_forward")
        fed = feed_forward(graph, layer.feed_forward, hidden, bert.config.encoder.activation)
        hidden = graph.norm(layer.feed_forward_norm, graph.add("Add", hidden, fed), "norm")
    return hidden


def attention(graph: OnnxBuilder, layer: SelfAttention, hidden: str, bias: str) -> str:
    """softmax(Q Kᵀ / √d + bias) V: (batch, length, hidden) → the same."""
    together = graph.linear(layer.query_key_value, hidden, "query_key_value")
    together = graph.add("Reshape", together, graph.constant([0, 0, 3, layer.heads, layer.head_size]))

    def part(index: int, order: list[int]) -> str:
        chosen = graph.add("Gather", together, graph.constant(index), axis=2)
        return graph.add("Transpose", chosen, perm=order)

    query, key, value = part(0, [0, 2, 1, 3]), part(1, [0, 2, 3, 1]), part(2, [0, 2, 1, 3])
    scores = graph.add("MatMul", query, key)
    scores = graph.add("Mul", scores, graph.constant(1 / math.sqrt(layer.head_size)))
    weights = graph.add("Softmax", graph.add("Add", scores, bias), axis=-1)
    context = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    context = graph.add("Reshape", context, graph.constant([0, 0, layer.heads * layer.head_size]))
    return graph.linear(layer.output, context, "output")


def feed_forward(graph: OnnxBuilder, layer: FeedForward, hidden: str, activation: str) -> str:
    """(batch, length, hidden) → the same."""
    wide = ACTIVATIONS[activation](graph, graph.linear(layer.expand, hidden, "expand"))
    return graph.linear(layer.contract, wide, "contract")


def gelu(graph: OnnxBuilder, value: str) -> str:
    """x Φ(x) (arXiv 1606.08415), in the form that runtimes know as one operator."""
    error = graph.add("Erf", graph.add("Div", value, graph.constant(math.sqrt(2))))
    product = graph.add("Mul", value, graph.add("Add", error, graph.constant(1.0)))
    return graph.add("Mul", product, graph.constant(0.5))


def gelu_tanh(graph: OnnxBuilder, value: str) -> str:
    """Its approximation, x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    cubed = graph.add("Mul", graph.add("Mul", graph.add("Mul", value, value), value), graph.constant(0.044715))
    inner = graph.add("Mul", graph.add("Add", value, cubed), graph.constant(math.sqrt(2 / math.pi)))
    factor = graph.add("Add", graph.add("Tanh", inner), graph.constant(1.0))
    return graph.add("Mul", graph.add("Mul", value, factor), graph.constant(0.5))


def relu(graph: OnnxBuilder, value: str) -> str:
    return graph.add("Relu", value)


ACTIVATIONS: dict[str, Callable[[OnnxBuilder, str], str]] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}


def representations(graph: OnnxBuilder, bert: Bert, hidden: str, reads: Collection[Reads]) -> dict[Reads, str]:
    """What output layers read (`Bert.represent`): (batch, hidden), or (batch, length, hidden) for tokens."""
    graph.part("pooling")
    found: dict[Reads, str] = {"tokens": hidden}
    if "first" in reads:
        first = graph.add("Gather", hidden, graph.constant(0), axis=1)
        found["first"] = graph.add("Tanh", graph.linear(bert.pooling.dense, first, "dense"))
    if "mean" in reads:
        real = graph.add("Cast", "attention_mask", to=1)
        over_length = graph.constant([1])
        sums = graph.add("ReduceSum", graph.add("Mul", hidden, real_of(graph, real)), over_length, keepdims=0)
        found["mean"] = graph.add("Div", sums, graph.add("ReduceSum", real, over_length, keepdims=1))
    return found


def real_of(graph: OnnxBuilder, mask: str) -> str:
    """(batch, length) → (batch, length, 1)"""
    return graph.add("Unsqueeze", mask, graph.constant([2]))


@singledispatch
def logits_of(layer: OutputLayer, graph: OnnxBuilder, representation: str) -> str:
    """(…, hidden) → (…, width): what an output layer makes of what it reads."""
    return graph.linear(layer.projection, representation, "projection")


@logits_of.register
def _(layer: Mahalanobis, graph: OnnxBuilder, representation: str) -> str:
    """The distance to the nearest class: √ min (|w|² + |m|² − 2 w·m)."""
    whitened = graph.add("MatMul", representation, graph.constant(layer.whitening.t(), "whitening"))
    own = graph.add("ReduceSum", graph.add("Mul", whitened, whitened), graph.constant([-1]), keepdims=1)
    squares = graph.add("Add", own, graph.constant(layer.means.detach().square().sum(-1), "squared_means"))
    product = graph.add("MatMul", whitened, graph.constant(layer.means.t(), "means"))
    squares = graph.add("Sub", squares, graph.add("Mul", product, graph.constant(2.0)))
    nearest = graph.add("ReduceMin", squares, axes=[-1], keepdims=1)
    return graph.add("Sqrt", graph.add("Max", nearest, graph.constant(0.0)))
