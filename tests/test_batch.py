"""Packing: a text's result does not depend on its neighbours."""

from __future__ import annotations

import numpy as np
import torch
from conftest import random_bert, random_encodings
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.batch import PackedBatch, Run
from bothways.model.config import EncoderConfig, OutputConfig
from bothways.tokenizer import Encoding

OUTPUTS = (
    OutputConfig(name="single", kind="single", labels=("a", "b", "c")),
    OutputConfig(name="mean", kind="multi", labels=("x", "y"), reads="mean"),
    OutputConfig(name="tags", kind="tags", labels=("O", "B"), reads="tokens"),
)


def test_pack_lays_end_to_end() -> None:
    encodings = [
        Encoding(np.array([2, 7, 3], np.int32), np.array([0, 0, 0], np.int8)),
        Encoding(np.array([2, 8, 3, 9, 3], np.int32), np.array([0, 0, 0, 1, 1], np.int8)),
        Encoding(np.array([2, 3, 3, 9, 3], np.int32), np.array([0, 0, 0, 1, 1], np.int8)),
    ]
    batch = PackedBatch.pack(encodings)
    assert batch.token_ids.tolist() == [2, 7, 3, 2, 8, 3, 9, 3, 2, 3, 3, 9, 3]
    assert batch.segment_ids.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert batch.sequence_starts.tolist() == [0, 3, 8, 13]
    assert batch.sequence_of_token.tolist() == [0] * 3 + [1] * 5 + [2] * 5
    assert batch.runs == (Run(1, 3), Run(2, 5))


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), data=st.data())
def test_alone_as_in_any_batch(encoder_config: EncoderConfig, lengths: list[int], data: st.DataObject) -> None:
    bert = random_bert(encoder_config, *OUTPUTS)
    encodings = random_encodings(encoder_config.vocab_size, lengths)
    order = data.draw(st.permutations(range(len(lengths))))
    with torch.no_grad():
        alone = [bert(PackedBatch.pack([encoding])) for encoding in encodings]
        batch = PackedBatch.pack([encodings[i] for i in order])
        together = bert(batch)
    tags = together["tags"].split(list(batch.lengths))
    for place, i in enumerate(order):
        torch.testing.assert_close(together["single"][place], alone[i]["single"][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together["mean"][place], alone[i]["mean"][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(tags[place], alone[i]["tags"], atol=1e-5, rtol=0)


def test_what_is_read_changes_nothing(encoder_config: EncoderConfig) -> None:
    """The last layer computed for the first tokens only, or for all tokens: the same logits."""
    bert = random_bert(encoder_config, *OUTPUTS)
    batch = PackedBatch.pack(random_encodings(encoder_config.vocab_size, [9, 4, 4, 17]))
    with torch.no_grad():
        torch.testing.assert_close(bert(batch, only={"single"})["single"], bert(batch)["single"], atol=1e-5, rtol=0)
