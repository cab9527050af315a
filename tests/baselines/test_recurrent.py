"""Recurrent networks: packed batches against PyTorch's own packing, texts alone against texts in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_encodings
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from bothways.baselines.recurrent import LSTM, RNN, RecurrentModel, start_with, step_by_step
from bothways.baselines.vectors import PublishedVectors
from bothways.batch import PackedBatch
from bothways.model.config import OutputConfig


def test_tokens_go_where_pytorch_puts_them() -> None:
    lengths = [3, 1, 5, 3, 2]
    tokens = torch.arange(sum(lengths))
    expected = pack_sequence(list(tokens.split(lengths)), enforce_sorted=False)
    order, sizes = step_by_step(np.array(lengths))
    assert torch.equal(sizes, expected.batch_sizes)
    assert torch.equal(tokens[order], expected.data)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM])
def test_a_text_in_a_batch_has_the_logits_of_plain_pytorch(layer: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    embedding, recurrent = nn.Embedding(50, 6), layer(6, 5, bidirectional=True)  # type: ignore[call-arg, arg-type]
    output = OutputConfig(name="label", kind="single", labels=("a", "b", "c"), reads="mean")
    model = RecurrentModel(embedding, recurrent, output, dropout=0.3).eval()
    encodings = random_encodings(50, [4, 9, 1, 4])
    found = model(PackedBatch.pack(encodings))["label"]
    for encoding, logits in zip(encodings, found, strict=True):
        hidden, _ = recurrent(embedding(torch.from_numpy(encoding.token_ids).long()))
        torch.testing.assert_close(model.outputs[0](hidden.amax(0)), logits)  # type: ignore[operator]


def test_known_vectors_take_the_rows_of_their_words() -> None:
    torch.manual_seed(0)
    embedding, known = nn.Embedding(4, 2), PublishedVectors("")
    known.words_, known.matrix_ = ["c", "a"], np.array([[1, 2], [3, -4]], np.float32)
    before = embedding.weight.detach().clone()
    start_with(embedding, ["a", "b", "c"], known)
    after = embedding.weight.detach()
    assert torch.equal(after[[0, 2]], before[[0, 2]])  # of others, and of b
    ratio = after[[1, 3]] / torch.tensor([[3.0, -4.0], [1.0, 2.0]])
    torch.testing.assert_close(ratio, ratio[:1, :1].expand(2, 2))


def test_long_texts_are_told_and_empty_ones_are_read() -> None:
    texts, labels = films(40)
    texts[0], texts[1] = "film " * 30, ""
    with pytest.warns(UserWarning, match="1 of 40 texts are longer than 20 tokens"):
        fitted = RNN(width=4, hidden_size=4, epochs=1, max_length=20).fit(texts, labels)
    assert np.isfinite(fitted.predict_proba(["", "never seen"])).all()


def test_random_numbers_of_others_stay_as_they_are() -> None:
    state = torch.get_rng_state()
    LSTM(width=4, hidden_size=4, epochs=1).fit(*films(20))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_on_published_vectors_reads_words_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("good 1 2 3\n酒店 3 1 1\n", "utf-8")
    texts, labels = films(60)
    fitted = LSTM(PublishedVectors(str(tmp_path / "vectors.txt")), hidden_size=4, epochs=1).fit(texts, labels)
    assert "酒店" in fitted.words_
    assert "酒店" not in LSTM(width=4, hidden_size=4, epochs=1).fit(texts, labels).words_
    fitted.save(tmp_path / "saved")
    (tmp_path / "vectors.txt").unlink()  # which a saved network needs no more
    again = LSTM.load(tmp_path / "saved")
    assert repr(again) == repr(fitted)
    np.testing.assert_allclose(again.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
