"""Documents → shards → sentence pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bothways.corpus.build as build
from bothways.corpus.build import build_corpus
from bothways.corpus.documents import read_documents, split_sentences
from bothways.corpus.shards import FORMAT, Corpus
from bothways.errors import InputError
from bothways.pretraining.sentence_pairs import NEXT, RANDOM, SentencePairs, fit
from bothways.tokenizer import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """A tokenizer in which every letter is a token, so that a token tells which document it came from."""
    return Tokenizer.train([" ".join(LETTERS)] * 3, 64)


@pytest.fixture
def alphabet(tmp_path: Path, letters: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """26 documents, one a letter, of sentences of 1 to 12 tokens, spread over several shards."""
    monkeypatch.setattr(build, "SHARD_TOKENS", 500)
    monkeypatch.setattr(build, "GROUP_CHARACTERS", 400)
    random = np.random.default_rng(0)
    documents = [[" ".join([letter] * random.integers(1, 13)) for _ in range(20)] for letter in LETTERS]
    return build_corpus(documents, letters, tmp_path / "corpus")


def test_sentences() -> None:
    assert split_sentences("It rained. We went home! Did we? Yes, at 3.5 p.m. we did.") == [
        "It rained.",
        "We went home!",
        "Did we?",
        "Yes, at 3.5 p.m. we did.",
    ]
    assert split_sentences("他说：“走吧。”我们走了！真的？是的；好……完") == [
        "他说：“走吧。”",
        "我们走了！",
        "真的？",
        "是的；",
        "好……",
        "完",
    ]
    assert split_sentences("  ") == []


def test_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\n三\n")
    assert list(read_documents(tmp_path / "a.txt")) == [["one", "two"], ["三"]]
    (tmp_path / "a.jsonl").write_text('{"text": "one\\ntwo"}\n{"text": "三"}\n')
    assert list(read_documents(tmp_path / "a.jsonl")) == [["one", "two"], ["三"]]
    (tmp_path / "b.txt").write_bytes(b"text\n\x00\x01\x02")
    with pytest.raises(InputError, match="line 2: there is a zero byte"):
        list(read_documents(tmp_path / "b.txt"))


def test_shards_hold_what_was_written(alphabet: Corpus, letters: Tokenizer) -> None:
    assert len(alphabet.tokens) > 2
    assert alphabet.documents == 26
    for document in range(26):
        start, end = alphabet.document_starts[document : document + 2]
        assert end - start == 20
        tokens, continues = alphabet.take(np.arange(*alphabet.token_starts[[start, end]]))
        assert not continues.any()
        assert set(letters.decode(tokens).replace(" ", "")) == {LETTERS[document]}
        assert 1 <= np.diff(alphabet.token_starts[start : end + 1]).min() <= 12
    assert alphabet.token_starts[-1] == sum(map(len, alphabet.tokens))


def test_half_next_half_random_and_never_the_wrong_document(alphabet: Corpus, letters: Tokenizer) -> None:
    pairs = SentencePairs(alphabet, sequence_length=32, seed=1)
    count = 2000
    labels, lengths = [], []
    for position in range(count):
        pair = pairs[position]
        ids, segments = pair.token_ids, pair.segment_ids
        assert pair.lengths.tolist() == [len(ids)]
        assert len(ids) <= 32
        assert ids[0] == letters.cls_id
        assert ids[-1] == letters.sep_id
        assert (ids == letters.sep_id).sum() == 2
        assert segments[0] == 0
        assert segments[-1] == 1
        first = set(letters.decode(ids[segments == 0]).replace(" ", ""))
        second = set(letters.decode(ids[segments == 1]).replace(" ", ""))
        assert len(first) == 1
        assert len(second) == 1
        (label,) = pair.labels.tolist()
        if label == NEXT:
            assert first == second
        else:
            assert first != second
        labels.append(label)
        lengths.append(len(ids))
    assert abs(np.mean(labels) - 0.5) < 4 * np.sqrt(0.25 / count)
    assert set(labels) == {NEXT, RANDOM}
    assert np.mean(np.array(lengths) > 24) > 0.7  # pairs fill the length


@pytest.mark.parametrize("sentences", [8, 400])
@pytest.mark.parametrize("length", [32, 128])
def test_length_does_not_tell_what_follows(letters: Tokenizer, tmp_path: Path, length: int, sentences: int) -> None:
    """Neither in long documents nor in short ones; guessed by length alone it is right half of the time."""
    random = np.random.default_rng(0)
    documents = [
        [" ".join([letter] * random.integers(1, 25)) for _ in range(random.integers(sentences // 2, 2 * sentences))]
        for letter in LETTERS * (400 // sentences)
    ]
    pairs = SentencePairs(build_corpus(documents, letters, tmp_path / "corpus"), sequence_length=length)
    found = pairs.at(np.arange(pairs.in_epoch * 8))
    lengths, labels = found.lengths, found.labels
    assert abs(labels.mean() - 0.5) < 0.03
    counts = np.array([np.bincount(lengths[labels == label], minlength=length + 1) for label in (NEXT, RANDOM)])
    counts = counts.reshape(2, -1)[:, : length + 1]
    assert counts.max(axis=0).sum() / counts.sum() < 0.565
    shorter = lengths < 0.9 * length
    assert 0.02 < shorter.mean() < (0.9 if sentences == 8 else 0.2)
    assert 0.4 < labels[shorter].mean() < 0.6


def test_pairs_are_a_function_of_seed_and_position(alphabet: Corpus) -> None:
    def ids(seed: int, position: int) -> list[int]:
        return SentencePairs(alphabet, sequence_length=32, seed=seed)[position].token_ids.tolist()

    pairs = SentencePairs(alphabet, sequence_length=32, seed=1)
    later = pairs.in_epoch + 7
    assert pairs[later].token_ids.tolist() == ids(1, later)
    assert pairs[5].token_ids.tolist() == ids(1, 5)
    assert ids(1, 5) != ids(2, 5)
    first_epoch = [ids(1, p) for p in range(40)]
    assert first_epoch != [ids(1, pairs.in_epoch + p) for p in range(40)]


def test_many_pairs_at_once_are_the_same_pairs(alphabet: Corpus) -> None:
    """Also where a batch reaches from one epoch into the next."""
    pairs = SentencePairs(alphabet, sequence_length=32, seed=1)
    positions = np.arange(pairs.in_epoch - 20, pairs.in_epoch + 20)
    together = pairs.at(positions)
    parts = np.split(together.token_ids, np.cumsum(together.lengths)[:-1])
    alone = [pairs[p] for p in positions]
    assert sorted(p.tolist() for p in parts) == sorted(a.token_ids.tolist() for a in alone)
    assert (np.diff(together.lengths) >= 0).all()
    assert together.labels.sum() == sum(int(a.labels[0]) for a in alone)


def test_an_epoch_reads_every_token_once(letters: Tokenizer, tmp_path: Path) -> None:
    """Stretches cover every document from end to end."""
    random = np.random.default_rng(0)
    documents = [[" ".join(["a"] * random.integers(1, 90)) for _ in range(random.integers(1, 9))] for _ in range(50)]
    corpus = build_corpus(documents, letters, tmp_path / "corpus")
    starts, ends, order = SentencePairs(corpus, sequence_length=32)._stretches(0)
    assert starts[0] == 0
    assert (starts[1:] == ends[:-1]).all()
    assert ends[-1] == corpus.document_starts[-1]
    assert set(corpus.document_starts[:-1]) <= set(starts.tolist())
    assert sorted(order.tolist()) == list(range(len(starts)))


def test_the_longer_text_gives_way() -> None:
    first, second = fit(np.array([50, 50, 9, 9]), np.array([10, 50, 9, 60]), 31)
    assert first.tolist() == [21, 16, 9, 9] or first.tolist() == [21, 15, 9, 9]
    assert (first + second).tolist() == [31, 31, 18, 31]


def test_mistakes(tmp_path: Path, alphabet: Corpus, letters: Tokenizer) -> None:
    with pytest.raises(InputError, match="no text"):
        build_corpus([[""]], letters, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    with pytest.raises(InputError, match="exists already"):
        build_corpus([["a"]], letters, alphabet.directory)
    lonely = build_corpus([["a b", "c d"]], letters, tmp_path / "lonely")
    with pytest.raises(InputError, match="two documents"):
        SentencePairs(lonely)
    with pytest.raises(InputError, match=r"no corpus\.json"):
        Corpus.open(tmp_path)
    shard = lonely.directory / "00000.tokens"
    content = shard.read_bytes()
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match="shard 00000 is damaged"):
        Corpus.open(lonely.directory)
    shard.write_bytes(content[:-2])
    with pytest.raises(InputError, match=r"00000\.tokens: this part of the corpus is missing or truncated"):
        Corpus.open(lonely.directory)
    Corpus.open(alphabet.directory, verify=False)
    description = json.loads((alphabet.directory / "corpus.json").read_text())
    lacking = json.dumps(description | {"shards": [{"sha256": "", "tokens": 3}]})
    for damage in ("{", "[]", json.dumps({"format": FORMAT}), json.dumps(description | {"shards": []}), lacking):
        (alphabet.directory / "corpus.json").write_text(damage)
        with pytest.raises(InputError, match=r"build (the corpus|it) again"):
            Corpus.open(alphabet.directory)
    (alphabet.directory / "corpus.json").write_text(json.dumps(description | {"format": 1}))
    with pytest.raises(InputError, match="another format"):
        Corpus.open(alphabet.directory)
    (alphabet.directory / "corpus.json").write_text(json.dumps(description | {"tokenizer": "another"}))
    with pytest.raises(InputError, match="another tokenizer"):
        Corpus.open(alphabet.directory)
