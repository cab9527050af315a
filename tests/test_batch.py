"""Packing: a text's result does not depend on its neighbours."""

from __future__ import annotations

import numpy as np
import torch
from conftest import random_bert, random_encodings
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.batch import PackedBatch, Run, round_up_coarsely
from bothways.model.attention import attention_in_rows, attention_in_runs
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


def test_few_numbers_remain() -> None:
    rounded = [round_up_coarsely(number) for number in range(5000)]
    assert rounded[0] == 0  # a batch without masked tokens
    assert all(number <= up <= number * (1 + 1 / 32) for number, up in enumerate(rounded))
    assert len(set(rounded[1024:2048])) == 33
    assert round_up_coarsely(5, least=16) == 16


def test_rows_hold_whole_sequences() -> None:
    lengths = [40, 20, 30, 64, 1]
    batch = PackedBatch.pack(random_encodings(100, lengths)).rounded_up()
    rows = batch.rows
    assert (rows.number, rows.width) == (4, 64)
    places = rows.slot_of_token[: sum(lengths)]
    assert rows.token_of_slot[places].tolist() == list(range(sum(lengths)))
    assert [place.tolist() for place in places.split(lengths)] == [
        list(range(begin, begin + length)) for begin, length in zip((0, 40, 64, 128, 192), lengths, strict=True)
    ]
    seen = rows.attention_bias.isfinite().sum(-1).flatten()[places]
    assert seen.tolist() == [length for length in lengths for _ in range(length)]


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 150), min_size=1, max_size=12))
def test_attention_in_rows_is_attention_in_runs(lengths: list[int]) -> None:
    """Sequences side by side in bf16 against each run by itself in fp32, forward and backward; filler gets nothing."""
    batch = PackedBatch.pack(random_encodings(100, lengths)).rounded_up()
    known, tokens = sum(lengths), len(batch.token_ids)
    given = torch.from_numpy(np.random.default_rng(0).normal(size=(tokens, 3, 2, 32))).bfloat16()
    in_rows, in_runs = given.requires_grad_(), given.float().detach()[:known].requires_grad_()
    attended, expected = attention_in_rows(in_rows, batch), attention_in_runs(in_runs, batch)
    torch.testing.assert_close(attended[:known].float(), expected, atol=3e-2, rtol=0)
    (attended[:known].float() ** 2).sum().backward()
    (expected**2).sum().backward()
    assert in_rows.grad is not None
    torch.testing.assert_close(in_rows.grad[:known].float(), in_runs.grad, atol=1e-1, rtol=5e-2)
    assert not in_rows.grad[known:].any()


def test_what_is_read_changes_nothing(encoder_config: EncoderConfig) -> None:
    """The last layer computed for the first tokens only, or for all tokens: the same logits."""
    bert = random_bert(encoder_config, *OUTPUTS)
    batch = PackedBatch.pack(random_encodings(encoder_config.vocab_size, [9, 4, 4, 17]))
    with torch.no_grad():
        torch.testing.assert_close(bert(batch, only={"single"})["single"], bert(batch)["single"], atol=1e-5, rtol=0)
