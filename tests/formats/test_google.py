"""Directories as Google published them: a TensorFlow checkpoint, read without TensorFlow."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import films, random_bert, random_encodings
from test_model import gap, padded, unpad

from bothways.batch import PackedBatch
from bothways.errors import InputError
from bothways.formats.google import NAME_ENDS
from bothways.formats.names import encoder_names, output_names
from bothways.formats.reading import load_model
from bothways.formats.tensor_bundle import MAGIC, TensorBundle, crc32c
from bothways.model.bert import Bert
from bothways.model.config import MASKED_LM, NEXT_SENTENCE, EncoderConfig
from bothways.tokenizer import Tokenizer

TYPES = {"float32": 1, "float64": 2, "int64": 9, "float16": 19}


def number(value: int) -> bytes:
    """As protocol buffers and LevelDB write whole numbers."""
    written = b""
    while value >= 0x80:
        written, value = written + bytes([value & 0x7F | 0x80]), value >> 7
    return written + bytes([value])


def entry(array: np.ndarray, offset: int) -> bytes:
    """A BundleEntryProto."""
    placed = b"" if offset == 0 else b"\x20" + number(offset)
    kind, size = b"\x08" + number(TYPES[str(array.dtype)]), b"\x28" + number(array.nbytes)
    return kind + shape(*array.shape) + placed + size + b"\x35" + bytes(4)


def shape(*sizes: int) -> bytes:
    """A TensorShapeProto, as the field of an entry."""
    written = b"".join(b"\x12" + number(len(size)) + size for size in (b"\x08" + number(n) for n in sizes))
    return b"\x12" + number(len(written)) + written


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of LevelDB's, with one place to start reading and its checksum."""
    written, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        written += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    written += struct.pack("<II", 0, 1) + b"\0"
    checksum = crc32c(written)
    return written + struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def table(entries: list[tuple[bytes, bytes]], size: int = 7) -> bytes:
    """A table of LevelDB's, so many entries in a block."""
    written, index = b"", []
    for first in range(0, len(entries), size):
        part = entries[first : first + size]
        content = block(part)
        index.append((part[-1][0], number(len(written)) + number(len(content) - 5)))
        written += content
    places = b""
    for content in (block([]), block(index)):
        places += number(len(written)) + number(len(content) - 5)
        written += content
    return written + places.ljust(40, b"\0") + MAGIC


def write_checkpoint(index: Path, tensors: dict[str, np.ndarray], header: bytes = b"\x08\x01\x1a\x02\x08\x01") -> None:
    """What TensorFlow's Saver writes, as far as a reader needs it."""
    entries, data = [(b"", header)], b""
    for name, array in sorted(tensors.items()):
        entries.append((name.encode(), entry(array, len(data))))
        data += array.tobytes()
    index.write_bytes(table(entries))
    index.with_name(f"{index.stem}.data-00000-of-00001").write_bytes(data)


def googles(bert: Bert) -> Iterator[tuple[str, np.ndarray]]:
    """The weights of a model under Google's names, with what the optimizer kept of each."""
    names = encoder_names(bert.config.encoder.layers) | output_names(bert.config.outputs)
    for ours, parameter in bert.named_parameters():
        for published, part in zip(names[ours], parameter.detach().chunk(len(names[ours])), strict=True):
            name = published if published.startswith(("cls.", "classifier.")) else f"bert.{published}"
            *parts, last = name.replace("layer.", "layer_").split(".")
            norm = parts[-1] == "LayerNorm"
            array = part.numpy()
            if last == "weight" and f"{parts[-1]}.weight" in NAME_ENDS.values():
                path = parts
            elif parts[-1] in ("seq_relationship", "classifier") or parts == ["cls", "predictions"]:
                path = [*parts, f"output_{'weights' if last == 'weight' else last}"]
            elif norm:
                path = [*parts, "gamma" if last == "weight" else "beta"]
            else:
                path = [*parts, "kernel" if last == "weight" else "bias"]
                array = array.T if last == "weight" else array
            there = "/".join(path).removeprefix("classifier/")
            yield there, np.ascontiguousarray(array)
            for slot in ("adam_m", "adam_v"):
                yield f"{there}/{slot}", np.zeros_like(array)
    yield "global_step", np.array(7, np.int64)


@pytest.fixture
def published(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> tuple[Path, Bert]:
    """A directory as Google published them, and the model that it holds."""
    bert = random_bert(encoder_config, MASKED_LM, NEXT_SENTENCE)
    directory = tmp_path / "uncased_L-2_H-32_A-4"
    directory.mkdir()
    write_checkpoint(directory / "bert_model.ckpt.index", dict(googles(bert)))
    (directory / "bert_model.ckpt.meta").write_bytes(b"a graph")
    (directory / "vocab.txt").write_text("".join(f"{t}\n" for t in tokenizer.tokens(range(tokenizer.vocab_size))))
    content = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 32,
        "initializer_range": 0.2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "type_vocab_size": 2,
        "vocab_size": tokenizer.vocab_size,
    }
    (directory / "bert_config.json").write_text(json.dumps(content))
    return directory, bert


def test_every_weight_comes_back(published: tuple[Path, Bert], tokenizer: Tokenizer) -> None:
    directory, bert = published
    again, its_tokenizer, report = load_model(directory)
    assert again.config.encoder == bert.config.encoder
    assert again.config.outputs == (MASKED_LM, NEXT_SENTENCE)
    assert again.config.longest == 64
    for (name, parameter), (_, other) in zip(bert.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter, other), name
    assert its_tokenizer.fingerprint == tokenizer.fingerprint
    assert str(report).endswith("nothing is missing; vocab.txt has no capital letters, so texts lose case and accents.")
    assert not report.unused


def test_it_says_what_transformers_says(published: tuple[Path, Bert], tokenizer: Tokenizer) -> None:
    import transformers

    directory, _ = published
    config = transformers.BertConfig.from_json_file(str(directory / "bert_config.json"))
    model = transformers.BertModel(config).eval()
    bundle = TensorBundle(directory / "bert_model.ckpt.index")
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # spelled out here once more, from their names to Google's
            there = "bert/" + name.replace("layer.", "layer_").replace(".", "/")
            kernel = parameter.ndim == 2 and "embeddings" not in name
            norm = "LayerNorm" in name
            ends = {"weight": "gamma" if norm else "kernel" if kernel else "", "bias": "beta" if norm else "bias"}
            parts = [*there.split("/")[:-1], ends[name.split(".")[-1]]]
            tensor = bundle.tensor("/".join(part for part in parts if part))
            parameter.copy_(tensor.T if kernel else tensor)
    encodings = random_encodings(tokenizer.vocab_size, [5, 9, 2])
    with torch.no_grad():
        theirs = model(**padded(encodings))
        ours = load_model(directory)[0].encode(PackedBatch.pack(encodings))
    assert gap(ours, unpad(theirs.last_hidden_state, encodings)) < 1e-5


def test_a_classifier_starts_from_it(published: tuple[Path, Bert], tmp_path: Path) -> None:
    from bothways import TextClassifier

    texts, labels = films(40)
    classifier = TextClassifier(encoder=published[0], epochs=1).fit(texts, labels)
    classifier.save(tmp_path / "classifier")
    assert set(TextClassifier.load(tmp_path / "classifier").predict(texts)) <= set(labels)


def test_capital_letters_of_the_vocabulary_tell_whether_case_counts(published: tuple[Path, Bert]) -> None:
    directory, _ = published
    assert Tokenizer.load(directory).lowercase
    entries = (directory / "vocab.txt").read_text().splitlines()
    (directory / "vocab.txt").write_text("\n".join([*entries[:5], "<S>", "[unused1]", "Ⅱ", "ℝ", *entries[9:]]))
    assert Tokenizer.load(directory).lowercase
    (directory / "vocab.txt").write_text("\n".join([*entries[:5], *"FGHI", *entries[9:]]))
    cased = Tokenizer.load(directory)
    assert not cased.lowercase
    assert cased.tokens(cased.encode("F f").token_ids)[1] == "F"
    assert "vocab.txt has capital letters, so texts keep case" in str(load_model(directory)[2])


def test_other_floating_types(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3, dtype=np.float64), "b": np.ones((2, 2), np.float16), "c": np.float32(4)[None][0:0]}
    write_checkpoint(tmp_path / "x.ckpt.index", arrays)
    bundle = TensorBundle(tmp_path / "x.ckpt.index")
    for name, array in arrays.items():
        assert np.array_equal(bundle.tensor(name).numpy(), array)


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4, has more


def refused(directory: Path, *said: str) -> None:
    with pytest.raises(InputError) as error:
        load_model(directory)
    for part in (str(directory), *said):
        assert part in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_what_is_missing_or_there_twice(published: tuple[Path, Bert]) -> None:
    directory, bert = published
    index, data = directory / "bert_model.ckpt.index", directory / "bert_model.ckpt.data-00000-of-00001"
    good = data.read_bytes()
    data.write_bytes(good[: len(good) // 2])
    refused(directory, f"{data} has {len(good) // 2} bytes, but")
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    refused(directory, "a pointer of Git LFS")
    data.unlink()
    refused(directory, f"{data} is missing")
    (directory / "model.ckpt-9.index").write_bytes(index.read_bytes())
    refused(directory, "there are 2 checkpoints, such as bert_model.ckpt.index and model.ckpt-9.index")
    (directory / "model.ckpt-9.index").unlink()
    lacking = {name: array for name, array in googles(bert) if "layer_1/output/dense/kernel" not in name}
    write_checkpoint(index, lacking)
    refused(directory, "lack encoder.layer.1.output.dense.weight")
    broken = {name: array * np.float32("nan") if "query/bias" in name else array for name, array in googles(bert)}
    write_checkpoint(index, broken)
    refused(directory, f"{data}: encoder.layer.0.attention.self.query.bias has values that are NaN")
    index.unlink()
    refused(directory, "pickle")


def test_no_change_of_a_byte_goes_further_than_a_sentence(published: tuple[Path, Bert]) -> None:
    directory, _ = published
    index = directory / "bert_model.ckpt.index"
    good = index.read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(0, len(good), 40):
        index.write_bytes(good[:length])
        refused(directory, "cannot be read as a TensorFlow checkpoint")
    for place in random.integers(0, len(good), 200):
        index.write_bytes(good[:place] + bytes([good[place] ^ int(random.integers(1, 256))]) + good[place + 1 :])
        if not len(good) - 48 <= place < len(good) - 8:  # no checksum there, and most of it is filling
            refused(directory, "cannot be read as a TensorFlow checkpoint")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\x08\x01\x12\x06\x12\x04\x08\xff\xff\x03\x28\x04", "has 4 bytes, but the shape (65535,)"),
        (b"\x08\x01\x12\x04\x12\x02\x08\x01\x20\xff\xff\xff\xff\x0f\x28\x04", "are asked for"),
        (b"\x08\x01\x12\x04\x12\x02\x08\x01\x18\x05\x28\x04", "data-00005-of-00001 is missing"),
        (b"\x08\x01\x12\x04\x12\x02\x08\x01\x28\x04\x3a\x00", "stored in parts"),
        (b"\x08\x01" + shape(2**40, 2**40, 0), "has 0 bytes, but the shape (1099511627776, 1099511627776, 0)"),
        (b"\x08\x01" + shape(*[0] * 100), "a tensor has 100 dimensions"),
        (b"\x0b", "a field of kind 3"),
        (b"\x12\x7f", "longer than its place"),
        (b"\x08" + b"\xff" * 11, "a number is too long"),
    ],
)
def test_hostile_entries(published: tuple[Path, Bert], value: bytes, said: str) -> None:
    directory, _ = published
    (directory / "bert_model.ckpt.index").write_bytes(table([(b"", b"\x08\x01"), (b"bert/a", value)]))
    refused(directory, said)


def test_tensors_that_lie_in_one_place(published: tuple[Path, Bert]) -> None:
    four_bytes = entry(np.ones(1, np.float32), 0)
    content = table([(b"", b"\x08\x01"), (b"bert/a", four_bytes), (b"bert/b", four_bytes)])
    (published[0] / "bert_model.ckpt.index").write_bytes(content)
    refused(published[0], "bert/b lies where another tensor lies")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (table([(b"a", b"")]), "it has no header"),
        (table([(b"", b"\x08\x01\x10\x01")]), "big-endian"),
        (table([(b"", b"\x08\x01"), (b"b", b""), (b"a", b"")]), "not in order"),
        (table([(b"", b"\x08\x01"), (b"a" * 513, b"")]), "longer than its place"),
        (table([(b"", b"\x08\x01"), (b"a", bytes(4 << 20))]), "it has more than 4,194,304 bytes"),
        (b"\xff" * 40 + MAGIC, "a number is too long"),
        (b"\x70" * 40 + MAGIC, "cut short"),
    ],
)
def test_hostile_tables(published: tuple[Path, Bert], content: bytes, said: str) -> None:
    (published[0] / "bert_model.ckpt.index").write_bytes(content)
    refused(published[0], "cannot be read as a TensorFlow checkpoint", said)


def test_names_that_repeat_each_other_take_no_more_memory_than_any_models(published: tuple[Path, Bert]) -> None:
    names = [b"a" * 500 + b"%06d" % number for number in range(40_000)]
    content = table([(b"", b"\x08\x01"), *((name, b"") for name in names)], size=len(names) + 1)
    assert len(content) < 400_000
    (published[0] / "bert_model.ckpt.index").write_bytes(content)
    refused(published[0], "its names are longer than any model's")
