"""A prepared model says what the plain one says: alone, in batches, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_bert, random_encodings

from bothways.batch import PackedBatch
from bothways.formats.reading import load_model
from bothways.inference.prepared import prepared
from bothways.model.bert import Bert
from bothways.model.config import EncoderConfig, OutputConfig

FIRST = OutputConfig(name="first", kind="single", labels=("a", "b", "c"))
MEAN = OutputConfig(name="mean", kind="multi", labels=("a", "b"), reads="mean")
TAGS = OutputConfig(name="tags", kind="tags", labels=("a", "b"), reads="tokens")
LENGTHS = [3, 9, 9, 1, 64, 17, 17, 17, 30]


@torch.inference_mode()
def compare(plain: Bert, ready: Bert, lengths: list[int], only: list[str]) -> None:
    """Both on sequences of these lengths."""
    batch = PackedBatch.pack(random_encodings(plain.config.encoder.vocab_size, lengths))
    expected, found = plain(batch, only=only), ready(batch, only=only)
    assert expected.keys() == found.keys() == set(only)
    for name in only:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("only", [["first"], ["mean"], ["tags"], ["first", "mean", "tags"]], ids="+".join)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_it_computes_what_the_plain_model_computes(
    encoder_config: EncoderConfig, only: list[str], activation: str
) -> None:
    plain = random_bert(replace(encoder_config, activation=activation), FIRST, MEAN, TAGS)
    compare(plain, prepared(plain), LENGTHS, only)


def test_one_layer_is_enough(encoder_config: EncoderConfig) -> None:
    plain = random_bert(replace(encoder_config, layers=1), FIRST, MEAN)
    compare(plain, prepared(plain), LENGTHS, ["first"])
    compare(plain, prepared(plain), LENGTHS, ["first", "mean"])


def test_it_computes_what_a_published_encoder_computes(minilm: Path) -> None:
    plain, _, _ = load_model(minilm)
    plain.attach(FIRST, MEAN)
    plain.eval()
    ready = prepared(plain)
    for lengths in ([25], [4, 4, 4], [7, 60, 200, 200, 512]):
        compare(plain, ready, lengths, ["first"])
        compare(plain, ready, lengths, ["first", "mean"])


def test_the_model_it_is_made_of_stays_as_it_was(encoder_config: EncoderConfig) -> None:
    plain = random_bert(encoder_config, FIRST)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    prepared(plain)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.inference_mode()
def test_a_text_alone_and_in_a_batch(encoder_config: EncoderConfig) -> None:
    ready = prepared(random_bert(encoder_config, FIRST))
    encodings = random_encodings(encoder_config.vocab_size, LENGTHS)
    together = ready(PackedBatch.pack(encodings))["first"]
    alone = torch.cat([ready(PackedBatch.pack([encoding]))["first"] for encoding in encodings])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_it_may_read_any_tokens(encoder_config: EncoderConfig) -> None:
    """As many as there are sequences, too, which are not the first ones."""
    plain = random_bert(encoder_config)
    batch = PackedBatch.pack(random_encodings(encoder_config.vocab_size, [4, 6]))
    for read in (torch.tensor([0, 4]), torch.tensor([1, 9]), torch.tensor([3])):
        torch.testing.assert_close(prepared(plain).encode(batch, read), plain.encode(batch, read), rtol=1e-5, atol=1e-5)


def test_threads_share_it(encoder_config: EncoderConfig) -> None:
    plain = random_bert(encoder_config, FIRST)
    ready = prepared(plain)
    batches = [
        PackedBatch.pack(random_encodings(encoder_config.vocab_size, LENGTHS[i % 5 :], seed=i)) for i in range(40)
    ]

    def logits(model: Bert, batch: PackedBatch) -> np.ndarray:
        with torch.inference_mode():  # a setting of each thread
            return model(batch)["first"].numpy()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: logits(ready, batch), batches))
    for batch, each in zip(batches, found, strict=True):
        np.testing.assert_allclose(each, logits(plain, batch), rtol=1e-5, atol=1e-5)
