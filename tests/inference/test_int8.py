"""Products in int8 are what exact integers give, and no token depends on others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings
from torch import nn

from bothways import InputError
from bothways.batch import PackedBatch
from bothways.formats.reading import load_model
from bothways.hardware import PRECISION_VARIABLE, int8_bits, multiplies_exactly, number_format
from bothways.inference.backend import TorchBackend
from bothways.inference.int8 import Rounded, in_int8
from bothways.model.config import EncoderConfig, Int8Agreement, OutputConfig

CPU = torch.device("cpu")
FIRST = OutputConfig(name="first", kind="single", labels=("a", "b", "c"))
MEAN = OutputConfig(name="mean", kind="single", labels=("a", "b", "c"), reads="mean")
LENGTHS = [3, 9, 9, 1, 64, 17, 17, 17, 30]
pytestmark = pytest.mark.skipif(not int8_bits(), reason="this processor does not multiply integers exactly")


def example(bits: int, zero: int) -> tuple[nn.Linear, Rounded, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(96, 40)
    given = torch.randn(33, 96) * torch.logspace(-3, 3, 33).unsqueeze(1)  # rows of very different size
    return layer, Rounded(layer, bits, zero), given


@torch.inference_mode()
@pytest.mark.parametrize(("bits", "zero"), [(bits, zero) for bits in (7, 8) for zero in (1, 12, 1 << (bits - 1))])
def test_a_product_is_what_exact_integers_give(bits: int, zero: int) -> None:
    if bits > int8_bits():
        pytest.skip("not exact on this processor")
    layer, product, given = example(bits, zero)
    integers, scale = (each.numpy() for each in product.rounded(given))
    assert integers[:33].max() <= 2**bits - 1
    scales = np.abs(layer.weight.numpy()).max(1) / np.float32(127)
    weights = np.rint(layer.weight.numpy() / scales[:, None]).astype(np.int64)
    exact = (integers[:33].astype(np.int64) - zero) @ weights.T
    found, found_scale = product.unscaled(given)
    np.testing.assert_allclose(found, exact * scales.astype(np.float64), rtol=3e-7)
    assert np.array_equal(found_scale, scale)
    np.testing.assert_allclose(
        product(given), exact * scales * scale.astype(np.float64) + layer.bias.numpy(), rtol=1e-5, atol=1e-6
    )
    hidden = torch.randn(33, 40)
    expected = hidden + product(given) - layer.bias
    torch.testing.assert_close(product.added_to(hidden, given), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("bits", [7, 8])
def test_rounding_errs_by_half_a_step_at_most(bits: int) -> None:
    _, product, given = example(bits, 1 << (bits - 1))
    integers, scale = product.rounded(given)
    errors = (integers[:33].float() - product.zero) * scale - given
    assert (errors.abs() <= scale * 0.5001).all()
    assert (errors.abs().amax(1) > scale[:, 0] * 0.3).all()


@torch.inference_mode()
def test_a_row_of_zeros_gives_the_bias() -> None:
    layer, product, _ = example(int8_bits(), 1 << (int8_bits() - 1))
    torch.testing.assert_close(product(torch.zeros(2, 96)), layer.bias.expand(2, -1))


def test_activations_of_more_bits_than_the_processor_sums_would_be_noticed() -> None:
    """The test of the processor looks at the largest sums."""
    assert multiplies_exactly((1 << int8_bits()) - 1)
    assert int8_bits() == 8 or not multiplies_exactly(255)


@torch.inference_mode()
def test_a_published_encoder_says_nearly_the_same(minilm: Path) -> None:
    bert, _, _ = load_model(minilm)
    batch = PackedBatch.pack(random_encodings(bert.config.encoder.vocab_size, LENGTHS))
    expected = bert.represent(batch, {"mean"})["mean"]
    similarity = torch.cosine_similarity(in_int8(bert, int8_bits()).represent(batch, {"mean"})["mean"], expected)
    assert similarity.min() > 0.98


@torch.inference_mode()
def test_neighbours_do_not_matter_to_a_published_encoder(minilm: Path) -> None:
    """Whose many roundings would turn one day if sums in fp32 before them differed in a last digit."""
    bert, _, _ = load_model(minilm)
    ready = in_int8(bert, int8_bits())
    encodings = random_encodings(bert.config.encoder.vocab_size, [7, 12, 12, 25, 31, 31, 40, 64])
    together = ready.represent(PackedBatch.pack(encodings), {"first"})["first"]
    alone = [ready.represent(PackedBatch.pack([encoding]), {"first"})["first"] for encoding in encodings]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("output", [FIRST, MEAN], ids=["first", "mean"])
def test_neighbours_do_not_matter(encoder_config: EncoderConfig, output: OutputConfig) -> None:
    ready = in_int8(random_bert(encoder_config, output), int8_bits())
    encodings = random_encodings(encoder_config.vocab_size, LENGTHS)
    alone = torch.cat([ready(PackedBatch.pack([encoding]))[output.name] for encoding in encodings])
    for order in (range(9), [*range(8, -1, -1)], [4, 0, 1, 8, 3, 2, 5, 7, 6]):
        together = ready(PackedBatch.pack([encodings[i] for i in order]))[output.name]
        torch.testing.assert_close(together, alone[list(order)], rtol=1e-6, atol=1e-6)


def test_threads_share_it(encoder_config: EncoderConfig) -> None:
    backend = TorchBackend(random_bert(encoder_config, FIRST), ["first"], precision="int8", device=CPU)
    batches = [
        PackedBatch.pack(random_encodings(encoder_config.vocab_size, LENGTHS[i % 5 :], seed=i)) for i in range(40)
    ]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: backend.logits(batch)["first"], batches))
    for batch, each in zip(batches, found, strict=True):
        torch.testing.assert_close(each, backend.logits(batch)["first"], rtol=1e-6, atol=1e-6)


def test_it_is_chosen_where_answers_agree_and_never_else(
    encoder_config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr("bothways.hardware.fast_in_bf16", lambda device: False)
    monkeypatch.setattr("bothways.hardware.int8_bits", lambda: 8)

    def chosen(int8: Int8Agreement | None) -> str:
        bert = random_bert(encoder_config, FIRST)
        bert.config = replace(bert.config, int8=int8)
        return TorchBackend(bert, ["first"], device=CPU).precision

    assert chosen(None) == "fp32"
    assert chosen(Int8Agreement(rows=1000, agreement=0.995)) == "int8"
    assert chosen(Int8Agreement(rows=1000, agreement=0.9949)) == "fp32"
    assert chosen(Int8Agreement(rows=50, agreement=1.0)) == "fp32"
    monkeypatch.setattr("bothways.hardware.int8_bits", lambda: 7)
    assert chosen(Int8Agreement(rows=1000, agreement=1.0)) == "fp32"


def test_where_it_cannot_be_used_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="int8 is for processors"):
        number_format("int8", torch.device("cuda"))
    monkeypatch.setattr("bothways.hardware.int8_bits", lambda: 0)
    with pytest.raises(InputError, match="does not multiply integers exactly"):
        number_format("int8", CPU)
    with pytest.raises(InputError, match="There is no precision 'int4'"):
        number_format("int4", CPU)
