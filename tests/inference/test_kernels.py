"""An encoder of one call says what the plain one says; integers are exact, and no token depends on others."""

from __future__ import annotations

import copy
import math
import pickle
import platform
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings
from torch import Tensor, nn
from torch.nn.functional import gelu

from bothways import InputError, hardware
from bothways.batch import PackedBatch
from bothways.formats.reading import load_model
from bothways.hardware import PRECISION_VARIABLE, int8_bits, number_format, use_one_thread, vector_instructions
from bothways.inference import backend
from bothways.inference.backend import TorchBackend
from bothways.inference.kernels import (
    LARGEST_GROUP,
    PANELS,
    WEIGHT_MAX,
    KernelEncoder,
    KernelFormat,
    fits,
    group_size_of,
    quantize,
    with_kernels,
)
from bothways.model.attention import SelfAttention
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig, Int8Agreement, OutputConfig
from bothways.model.encoder import EncoderLayer

CPU = torch.device("cpu")
FIRST = OutputConfig(name="first", kind="single", labels=("a", "b", "c"))
MEAN = OutputConfig(name="mean", kind="multi", labels=("a", "b"), reads="mean")
TAGS = OutputConfig(name="tags", kind="tags", labels=("a", "b"), reads="tokens")
LENGTHS = [3, 9, 9, 1, 64, 17, 17, 17, 30, 2, 33]
SHORT = [3, 9, 9, 1, 17, 12, 2, 5, 30, 2, 4, 7, 1, 6, 10]
SHAPE = EncoderConfig(vocab_size=90, hidden_size=128, layers=3, heads=4, feed_forward_size=256, max_positions=512)
HERE = list(PANELS)[: list(PANELS).index(vector_instructions()) + 1] if vector_instructions() else []
"""The instructions of this processor that there are kernels for."""
TOP = {("int8", "AVX2"): 127, ("int8", "AVX-512 VNNI"): 255, ("int16", "AVX2"): 2047, ("int16", "AVX-512 VNNI"): 2047}
needs_kernels = pytest.mark.skipif(not HERE, reason="there are no kernels for this processor, or no compiler was here")
every_format = pytest.mark.parametrize("number_format", ["fp32", "int16", "int8"])
every_instruction = pytest.mark.parametrize("instructions", HERE)


class Quantized(nn.Module):
    """What encoder.c says that a linear layer in integers is, in float64."""

    def __init__(self, layer: nn.Linear, group_size: int, largest: int, top: int) -> None:
        super().__init__()
        integers, self.scales = quantize(layer.weight.detach().numpy(), group_size, largest)
        self.groups, self.top, self.bias = (
            integers.reshape(*self.scales.shape, group_size),
            top,
            layer.bias.detach().double(),
        )

    def forward(self, given: Tensor) -> Tensor:
        x = given.numpy().reshape(len(given), self.groups.shape[1], -1)
        low = x.min(-1, keepdims=True)
        scale = np.maximum((x.max(-1, keepdims=True) - low) / np.float32(self.top), np.float32(1e-30))
        near = np.rint((x - low) / scale) * scale.astype(np.float64) + low
        return (torch.from_numpy(np.einsum("tgk,ogk,og->to", near, self.groups, self.scales)) + self.bias).float()


def integers_of(x: Tensor, dim: int, most: int) -> tuple[Tensor, Tensor]:
    """Numbers as integers up to `most` along `dim`, and the value of one step."""
    steps = x.abs().amax(dim, keepdim=True) / most
    return (x / steps).round(), steps


def gelu_of_integers(x: Tensor) -> Tensor:
    """What encoder.inc takes for GELU between integers."""
    factors = [0.49854875, -0.38623108, -0.03701943, 0.11537401, -0.030180642, -4.9557745e-3, 3.694546e-3, -6.51566e-4]
    size = x.abs().clamp(max=4.1).double()
    tail = sum(factor * size**power for power, factor in enumerate([*factors, 3.9644245e-5], 1))
    return (x.clamp(min=0) - tail).float()


class QuantizedAttention(nn.Module):
    """What encoder.c says that attention in integers is, in float64."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.heads, self.query_key_value, self.output = attention.heads, attention.query_key_value, attention.output

    def forward(self, hidden: Tensor, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        parts = self.query_key_value(hidden).double().chunk(3, -1)
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(0, 1) for part in parts]  # (heads, tokens, size)
        found = []
        for begin, end in pairwise(batch.sequence_starts.tolist()):
            query, key, value = (part[:, begin:end] for part in heads)
            most = math.isqrt(2**31 // query.shape[-1]) - 1
            (query, query_step), (key, key_step) = integers_of(query, -1, most), integers_of(key, -1, most)
            scores = query @ key.mT * query_step * key_step.mT / query.shape[-1] ** 0.5
            probabilities = ((scores - scores.amax(-1, keepdim=True)).exp() * 2**14).round()
            value, value_step = integers_of(value, -2, 2047)
            found.append(probabilities @ value * value_step / probabilities.sum(-1, keepdim=True))
        return self.output(torch.cat(found, 1).transpose(0, 1).flatten(1).float())


def in_integers(bert: Bert, number_format: KernelFormat, instructions: str) -> Bert:
    """A copy of `bert` whose linear layers are `Quantized`, and whose attention is."""
    found, config = copy.deepcopy(bert), bert.config.encoder
    how = (group_size_of(config, number_format), WEIGHT_MAX[number_format], TOP[number_format, instructions])
    for layer in found.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        for part, names in (
            (layer.attention, ("query_key_value", "output")),
            (layer.feed_forward, ("expand", "contract")),
        ):
            for name in names:
                setattr(part, name, Quantized(getattr(part, name), *how))
        layer.attention = QuantizedAttention(layer.attention)  # type: ignore[assignment]
        layer.feed_forward.activation = gelu_of_integers
    return found


def lively(config: EncoderConfig = SHAPE, *outputs: OutputConfig) -> Bert:
    """Random weights large enough that attention looks at something and GELU bends."""
    torch.manual_seed(1)
    bert = random_bert(config, *(outputs or (FIRST, MEAN, TAGS)))
    with torch.no_grad():
        for parameter in bert.encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 2 else 0.2))
    return bert


def batch_of(lengths: list[int]) -> PackedBatch:
    return PackedBatch.pack(random_encodings(SHAPE.vocab_size, lengths))


@needs_kernels
@torch.inference_mode()
@every_instruction
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("only", [["first"], ["mean"], ["tags"], ["first", "mean", "tags"]], ids="+".join)
def test_in_fp32_it_computes_what_the_plain_model_computes(only: list[str], activation: str, instructions: str) -> None:
    plain = lively(replace(SHAPE, activation=activation))
    expected = plain(batch_of(LENGTHS), only=only)
    found = with_kernels(plain, "fp32", instructions)(batch_of(LENGTHS), only=only)
    for name in only:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


@needs_kernels
@torch.inference_mode()
@every_instruction
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 64, "heads": 4, "feed_forward_size": 64},
        {"hidden_size": 192, "heads": 4, "feed_forward_size": 128},
        {"hidden_size": 320, "heads": 4, "feed_forward_size": 448},
        {"hidden_size": 256, "heads": 2, "feed_forward_size": 1024},
        {"hidden_size": 64, "heads": 1, "feed_forward_size": 256},
    ],
    ids=str,
)
def test_all_shapes_that_fit_are_computed(shape: dict[str, int], instructions: str) -> None:
    """Heads of 16, 48, 64, 80 and 128; feed-forward parts narrower than the rest, and no multiple of it."""
    plain, batch = lively(replace(SHAPE, **shape)), batch_of([*LENGTHS, 100])
    expected = plain.encode(batch)
    torch.testing.assert_close(with_kernels(plain, "fp32", instructions).encode(batch), expected, rtol=1e-4, atol=1e-4)
    errors = [
        (with_kernels(plain, number_format, instructions).encode(batch) - expected).pow(2).mean().sqrt()
        for number_format in ("int16", "int8")
    ]
    assert 1e-5 < errors[0] < 0.02
    assert errors[0] * 3 < errors[1] < 0.3


@needs_kernels
@torch.inference_mode()
@every_instruction
@pytest.mark.parametrize("number_format", ["int16", "int8"])
def test_in_integers_it_computes_what_exact_integers_give(number_format: KernelFormat, instructions: str) -> None:
    """One layer of it: where two ways to sum in fp32 fall on two sides of a half, another integer comes of it, which
    happens in few rows of one layer and grows in those after it; if it is a number of a key or value, to all rows of
    a text, so most are short."""
    plain, batch = lively(replace(SHAPE, layers=1)), batch_of(SHORT)
    expected = in_integers(plain, number_format, instructions).encode(batch)
    found = with_kernels(plain, number_format, instructions).encode(batch)
    same = torch.isclose(found, expected, rtol=0, atol=1e-5).all(1)
    assert same.float().mean() > 0.7
    of_rounding = (expected - plain.encode(batch)).abs().amax(1)
    assert of_rounding[same].min() > 1e-4
    assert ((found - expected).abs().amax(1) < of_rounding.max()).all()


def test_gelu_between_integers_is_near() -> None:
    x = torch.linspace(-30, 30, 100_001)
    assert (gelu_of_integers(x) - gelu(x)).abs().max() < 6e-5


@needs_kernels
@torch.inference_mode()
@every_instruction
@pytest.mark.parametrize("number_format", ["int16", "int8"])
def test_the_largest_sums_are_exact(number_format: KernelFormat, instructions: str) -> None:
    """Activations of 0 and 1 and weights of -w and w become the smallest and largest integers, in any pattern."""
    width = 1024
    config = EncoderConfig(vocab_size=9, hidden_size=width, layers=1, heads=16, feed_forward_size=1024, max_positions=8)
    bert = random_bert(config, FIRST)
    layer = bert.encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    for parameter in layer.parameters():
        parameter.zero_()
    layer.attention_norm.weight.fill_(1)
    layer.feed_forward_norm.weight.fill_(1)
    sign = torch.where(torch.arange(width) <= torch.arange(width).unsqueeze(1), 1.0, -1.0)
    sign[-1], sign[-2] = 1, -1
    layer.attention.query_key_value.weight[2 * width :] = sign * 0.01  # values; one token looks at itself alone
    layer.attention.output.weight.copy_(torch.eye(width))
    hidden = torch.stack([torch.ones(width), torch.zeros(width), torch.arange(width) % 2])
    hidden[0, 0], hidden[1, 0] = 0, 1  # so that smallest and largest differ
    batch = batch_of([1, 1, 1])
    expected = bert.encoder(hidden, batch)
    found = KernelEncoder(bert.encoder, config, number_format, instructions)(hidden.clone(), batch)
    # The values themselves are rounded once more, to a 255th or less of what lies between the largest and smallest.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03 if number_format == "int8" else 0.002)


@needs_kernels
@torch.inference_mode()
@every_instruction
@every_format
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_broken_weights_are_not_hidden(
    broken: float, activation: str, number_format: KernelFormat, instructions: str
) -> None:
    """Integers know no NaN, and x86's max and min forget one of their operands."""
    for name in ("attention.query_key_value", "attention.output", "feed_forward.expand"):
        if (name, activation, broken) == ("feed_forward.expand", "relu", float("-inf")):
            continue  # which is 0
        plain = lively(replace(SHAPE, activation=activation))
        plain.encoder.layers[1].get_submodule(name).bias[-1] = broken
        found = with_kernels(plain, number_format, instructions).encode(batch_of(LENGTHS))
        assert found.isnan().any(1).all(), name


@needs_kernels
@torch.inference_mode()
@every_instruction
@every_format
def test_a_text_alone_and_in_any_company_gives_the_same_bits(number_format: KernelFormat, instructions: str) -> None:
    ready = with_kernels(lively(), number_format, instructions)
    encodings = random_encodings(SHAPE.vocab_size, [*LENGTHS, 200, 512, *range(1, 40)])
    batch = PackedBatch.pack(encodings)
    together = ready.encode(batch)
    alone = [ready.encode(PackedBatch.pack([encoding])) for encoding in encodings]
    assert torch.equal(torch.cat(alone), together)
    firsts = batch.sequence_starts[:-1]
    assert torch.equal(ready.encode(batch, firsts), together[firsts]), "as where only first tokens are read"


@needs_kernels
@torch.inference_mode()
@every_instruction
@every_format
def test_any_number_of_threads_gives_the_same_bits(number_format: KernelFormat, instructions: str) -> None:
    ready = with_kernels(lively(), number_format, instructions)
    batches = [batch_of(lengths) for lengths in (LENGTHS, [1], [7], [200, 1, 1], [40] * 30)]
    threads = torch.get_num_threads()
    found = []

    def encode(batch: PackedBatch) -> Tensor:
        with torch.inference_mode():
            return ready.encode(batch)

    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append([ready.encode(batch) for batch in batches])
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(4, initializer=use_one_thread) as pool:  # callers beside one another
        again = list(pool.map(encode, batches * 8))
    for i, expected in enumerate(found[0]):
        assert all(torch.equal(each[i], expected) for each in found)
        assert all(torch.equal(each, expected) for each in again[i :: len(batches)])


@needs_kernels
@torch.inference_mode()
@every_format
def test_a_published_encoder_keeps_its_answers(minilm: Path, number_format: KernelFormat) -> None:
    plain, _, _ = load_model(minilm)
    torch.manual_seed(0)
    plain.attach(FIRST, MEAN)
    for output in plain.outputs:
        nn.init.normal_(output.projection.weight, std=0.5)
    plain.eval()
    ready = with_kernels(plain, number_format)
    batch = PackedBatch.pack(random_encodings(plain.config.encoder.vocab_size, [25, 4, 60, 200, 200, 512] * 4))
    expected, found = plain(batch), ready(batch)
    for name in ("first", "mean"):
        error = (found[name] - expected[name]).pow(2).mean().sqrt() / expected[name].std()  # the largest is chance
        assert error < {"fp32": 1e-4, "int16": 0.015, "int8": 0.07}[number_format]


@needs_kernels
def test_the_model_itself_stays_as_it_was_and_may_go() -> None:
    plain = lively()
    before = copy.deepcopy(plain.state_dict())
    ready = with_kernels(plain, "int8")
    assert ready.embeddings.token.weight is plain.embeddings.token.weight, "the largest table is there once"
    with torch.inference_mode():
        expected = ready(batch_of(LENGTHS))["first"]
        assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in before.items())
        del plain
        assert torch.equal(ready(batch_of(LENGTHS))["first"], expected)


@needs_kernels
@torch.inference_mode()
@every_format
def test_it_is_copied_and_pickled(number_format: KernelFormat) -> None:
    """As classifiers are by scikit-learn and joblib."""
    ready, batch = with_kernels(lively(), number_format), batch_of(LENGTHS)
    expected = ready.encode(batch)
    assert torch.equal(copy.deepcopy(ready).encode(batch), expected)
    written = pickle.dumps(ready)
    del ready
    assert torch.equal(pickle.loads(written).encode(batch), expected)


@needs_kernels
def test_what_is_no_packed_batch_is_refused() -> None:
    encoder = with_kernels(lively(), "fp32").encoder
    batch, hidden = batch_of([3, 2]), torch.zeros(5, SHAPE.hidden_size)
    with torch.inference_mode():
        assert encoder(hidden.clone(), batch).shape == hidden.shape
    for starts in ([0, 3, 3, 5], [0, 3], [1, 3, 5], [0, 6, 5]):
        with pytest.raises(ValueError, match="not the embeddings of a packed batch"):
            encoder(hidden, replace(batch, sequence_starts=torch.tensor(starts)))
    for wrong in (hidden.double(), hidden[:, :64], hidden.t().contiguous().t(), hidden.clone().requires_grad_()):
        with pytest.raises(ValueError, match="not the embeddings of a packed batch"):
            encoder(wrong, batch)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not shutil.which("gcc"), reason="nothing compiles it"
)
def test_where_there_is_a_compiler_it_is_built() -> None:
    """A mistake in it would be passed over in silence, since it is optional."""
    assert hardware.kernels() is not None


def test_the_largest_group_is_summed_in_32_bits() -> None:
    assert LARGEST_GROUP * 2047 * WEIGHT_MAX["int16"] < 2**31
    large = replace(SHAPE, hidden_size=2048, heads=32, feed_forward_size=8192)
    assert group_size_of(large, "int16") == 128
    assert group_size_of(replace(large, hidden_size=1024), "int16") == 1024
    assert group_size_of(SHAPE, "int8") == 128
    assert group_size_of(replace(SHAPE, hidden_size=192), "int8") == 64


@needs_kernels
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 96, "heads": 3},
        {"feed_forward_size": 100},
        {"heads": 16},
    ],
    ids=str,
)
def test_a_shape_that_does_not_fit_is_computed_in_pytorch(shape: dict[str, int]) -> None:
    bert = lively(replace(SHAPE, **shape), FIRST)
    assert fits(SHAPE)
    assert not fits(bert.config.encoder)
    with pytest.raises(ValueError, match="no kernels"):
        with_kernels(bert, "fp32")
    with torch.inference_mode():
        expected = bert(batch_of(LENGTHS))["first"]
    plain = TorchBackend(bert, ["first"])
    assert plain.precision == hardware.fast_precision(CPU)
    torch.testing.assert_close(
        plain.logits(batch_of(LENGTHS))["first"], expected, rtol=1e-4, atol=1e-4 if plain.precision == "fp32" else 0.1
    )
    with pytest.raises(InputError, match="There is no int8 for this processor, installation or shape of model"):
        TorchBackend(bert, ["first"], precision="int8")


def test_without_the_compiled_part_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "kernels", lambda: None)
    assert vector_instructions() == ""
    assert int8_bits() == 0
    assert not fits(SHAPE)
    bert = lively(SHAPE, FIRST)
    with torch.inference_mode():
        expected = bert(batch_of(LENGTHS))["first"]
        found = TorchBackend(bert, ["first"], precision="fp32").logits(batch_of(LENGTHS))["first"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="There is no int16"):
        TorchBackend(bert, ["first"], precision="int16")


def test_what_pytorch_is_told_not_to_use_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert vector_instructions() == ""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert vector_instructions() in ("", "AVX2")


def test_the_fastest_format_that_gives_the_same_answers_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(hardware, "fast_in_bf16", lambda device: False)
    monkeypatch.setattr(hardware, "vector_instructions", lambda: "AVX-512 VNNI")
    assert number_format(None, CPU) == "fp32"
    assert number_format(None, CPU, integers=True) == "int16"
    assert number_format(None, CPU, integers=True, int8_agrees=True) == "int8"
    monkeypatch.setattr(hardware, "vector_instructions", lambda: "AVX2")
    assert number_format(None, CPU, integers=True, int8_agrees=True) == "int16", "7 bits gain little"
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    assert number_format(None, CPU, integers=True, int8_agrees=True) == "fp32", "what was said overrules it"
    monkeypatch.delenv(PRECISION_VARIABLE)
    monkeypatch.setattr(hardware, "fast_in_bf16", lambda device: True)
    assert number_format(None, CPU, integers=True, int8_agrees=True) == "bf16"
    with pytest.raises(InputError, match="int8 is for processors"):
        number_format("int8", torch.device("cuda"), integers=True)


@needs_kernels
@pytest.mark.parametrize(("at_least", "chosen"), [(0.99, "int8"), (0.9899, "int16"), (0.0, "int16")])
def test_int8_is_used_unasked_only_where_it_agrees(
    monkeypatch: pytest.MonkeyPatch, at_least: float, chosen: str
) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(hardware, "fast_in_bf16", lambda device: False)
    monkeypatch.setattr(hardware, "int8_bits", lambda: 8)
    bert = lively(SHAPE, FIRST)
    bert.config = replace(bert.config, int8=Int8Agreement(rows=500, agreement=1.0, at_least=at_least))
    assert backend.TorchBackend(bert, ["first"], device=CPU).precision == chosen
