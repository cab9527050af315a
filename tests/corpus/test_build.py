"""Building a corpus: the same bytes by any number of processes, killed or not; duplicates; words; huge lines."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES, films

import bothways.corpus.build as build_module
import bothways.corpus.documents as documents_module
from bothways.corpus.build import build_corpus, build_from_files
from bothways.corpus.documents import read_documents
from bothways.corpus.duplicates import keys
from bothways.corpus.shards import Corpus, read_description
from bothways.corpus.tokenization import LONGEST_SENTENCE
from bothways.errors import InputError
from bothways.pretraining.masking import Masking
from bothways.pretraining.sentence_pairs import SentencePairs
from bothways.tokenizer import SPECIAL_TOKENS, Tokenizer


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "SHARD_TOKENS", 2000)
    monkeypatch.setattr(build_module, "GROUP_CHARACTERS", 1000)


@pytest.fixture
def fixed() -> Tokenizer:
    """A vocabulary that nobody has learned. A learned one differs from run to run where counts tie, and with it which
    short documents are near by chance."""
    pieces = sorted({character for text in films(500)[0] for character in text if character != " "} | set("and more!."))
    tokens = [*SPECIAL_TOKENS, *(prefix + piece for prefix in ("", "##") for piece in pieces if piece != " ")]
    return Tokenizer.from_vocabulary({token: number for number, token in enumerate(tokens)})


def documents(count: int = 120) -> list[list[str]]:
    return [[text + ". And more! " for text in films(1 + seed % 9, seed=seed)[0]] for seed in range(count)]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_any_number_of_processes(small: None, tokenizer: Tokenizer, tmp_path: Path) -> None:
    one = build_corpus(documents(), tokenizer, tmp_path / "one")
    build_corpus(documents(), tokenizer, tmp_path / "three", processes=3)
    assert len(one.tokens) > 2
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert not list(tmp_path.glob("*.run"))


@pytest.mark.parametrize("duplicates", ["keep", "near"])
def test_killed_and_resumed(small: None, fixed: Tokenizer, tmp_path: Path, duplicates: str) -> None:
    repeated = documents(100) + documents(60)

    def until(end: int) -> Iterator[list[str]]:
        yield from itertools.islice(repeated, end)
        raise KeyboardInterrupt

    def build(name: str, read: Iterable[list[str]], resume: bool = False, inputs: tuple[str, ...] = ("a",)) -> Corpus:
        return build_corpus(
            read,
            fixed,
            tmp_path / name,
            duplicates=duplicates,
            resume=resume,
            inputs=inputs,  # type: ignore[arg-type]
        )

    build("alone", repeated)
    for end in (70, 120, 158):
        with pytest.raises(KeyboardInterrupt):
            build("killed", until(end), resume=True)
        assert not (tmp_path / "killed").exists()
    with pytest.raises(InputError, match="holds an unfinished build; add --resume"):
        build("killed", repeated)
    with pytest.raises(InputError, match="begun with other inputs"):
        build("killed", repeated, resume=True, inputs=("b",))
    build("killed", repeated, resume=True)
    assert content(tmp_path / "killed") == content(tmp_path / "alone")
    assert read_description(tmp_path / "alone")["dropped"] == (0 if duplicates == "keep" else 60)


def test_killed_at_the_very_end(
    small: None, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When everything is written and only the name is lacking, nothing is read again."""

    def unread() -> Iterator[list[str]]:
        yield from documents()
        raise AssertionError("read again")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    build_corpus(documents(), tokenizer, tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "tidy", killed)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(documents(), tokenizer, tmp_path / "finished")
    assert content(tmp_path / "finished") != content(tmp_path / "alone")
    build_module.tidy(tmp_path / "finished")  # as `--resume` does
    assert content(tmp_path / "finished") == content(tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "replace_directory", killed)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(documents(), tokenizer, tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "DocumentTokenizer", None)  # so there is nothing to cut with
        build_corpus(itertools.islice(unread(), 120), tokenizer, tmp_path / "killed", resume=True, processes=2)
    assert content(tmp_path / "killed") == content(tmp_path / "alone")


def test_an_input_that_has_changed(small: None, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The same bytes in another order."""
    text = "\n\n".join("\n".join(document) for document in documents())
    (tmp_path / "a.txt").write_text(text)

    def build() -> Corpus:
        return build_from_files([str(tmp_path / "a.txt")], tokenizer, tmp_path / "out", resume=True, quiet=True)

    build()
    (tmp_path / "out").rename(tmp_path / "out.run")
    settings = [f"{tmp_path / 'a.txt'} {len(text.encode())} {build_module.digest_of_beginning(tmp_path / 'a.txt')}"]
    described = {"tokenizer": tokenizer.fingerprint, "duplicates": "keep", "words": "spaces", "inputs": settings}
    (tmp_path / "out.run" / "journal.json").write_text(json.dumps({"settings": described, "read": 0, "shards": []}))
    (tmp_path / "a.txt").write_text("\n\n".join(reversed(text.split("\n\n"))))
    with pytest.raises(InputError, match="begun with other inputs"):
        build()
    (tmp_path / "out.run" / "journal.json").write_text('{"settings": ')
    with pytest.raises(InputError, match=r"journal\.json, .* is damaged"):
        build()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_processes_end_with_their_parent(tmp_path: Path, encoder_directory: Path) -> None:
    """Killed, it cannot tell them."""
    text = "\n\n".join(" ".join(films(30, seed=seed)[0]) for seed in range(20_000))
    (tmp_path / "a.txt").write_text(text)
    words = ["corpus", "build", "a.txt", "--tokenizer", str(encoder_directory), "--out", "out", "--processes", "2"]
    parent = subprocess.Popen([sys.executable, "-m", "bothways.cli", *words], cwd=tmp_path)

    def workers() -> set[str]:
        return {
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/cwd")
            if path.parent.name != str(parent.pid) and os.path.realpath(path) == str(tmp_path.resolve())
        }

    def wait_for(count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(workers()) != count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(workers()) == count

    wait_for(2, 60)
    parent.kill()
    parent.wait()
    wait_for(0, 20)


def test_duplicates(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long = [" ".join(films(60, seed=1)[0])]
    nearly = [long[0].replace("film", "书", 1)]
    other = [" ".join(films(60, seed=2)[0])]
    counted = {}
    for duplicates in ("keep", "exact", "near"):
        build_corpus([long, nearly, other, long], tokenizer, tmp_path / duplicates, duplicates=duplicates)  # type: ignore[arg-type]
        counted[duplicates] = read_description(tmp_path / duplicates)["documents"]
    assert counted == {"keep": 4, "exact": 3, "near": 2}


def test_near_duplicates_are_as_likely_found_as_promised() -> None:
    """Pairs of documents that have a known share of their runs in common."""
    random = np.random.default_rng(0)
    found = {}
    for share in (0.4, 0.8):
        hits = 0
        for _ in range(150):
            same = random.integers(5, 50_000, 900)
            fresh = round(900 * (1 - share) / (1 + share))
            first, second = (np.concatenate((random.integers(5, 50_000, fresh), same[fresh:])) for _ in range(2))
            hits += bool(set(keys(first, "near").tolist()) & set(keys(second, "near").tolist()))
        found[share] = hits / 150
    assert found[0.4] < 0.08
    assert found[0.8] > 0.85


def test_chinese_words_are_hidden_whole(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = [[s] for s in SENTENCES * 40]
    corpus = build_corpus(texts, tokenizer, tmp_path / "corpus", words="jieba")
    tokens, continues = corpus.take(np.arange(corpus.token_starts[-1]))
    spelled = tokenizer.tokens(tokens)
    words: list[str] = []
    for token, inside in zip(spelled, continues, strict=True):
        if inside and words:
            words[-1] += token.removeprefix("##")
        else:
            words.append(token)
    assert {"酒店", "干净", "服务", "屏幕", "电池", "unbelievably"} <= set(words)
    pairs = SentencePairs(corpus, sequence_length=48, seed=1).at(np.arange(200))
    chance = np.random.default_rng(0).random((3, len(pairs.token_ids)))
    masked = Masking(tokenizer)(pairs.token_ids, pairs.continues, chance)
    chosen = np.zeros(len(pairs.token_ids), bool)
    chosen[masked.positions] = True
    special = np.isin(tokenizer.tokens(pairs.token_ids), SPECIAL_TOKENS)
    inside = np.flatnonzero(pairs.continues[1:] & ~special[:-1]) + 1
    assert len(inside) > 500
    assert (chosen[inside] == chosen[inside - 1]).all()
    assert not chosen[special].any()
    # Words are chosen with the rate; longer ones hold more tokens, each as likely as any.
    assert abs(chosen[~special].mean() - 0.15) < 0.02


def test_long_sentences_are_cut(tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = build_corpus([["film " * 300, "good"], [""], ["the"]], tokenizer, tmp_path / "corpus")
    assert np.diff(corpus.token_starts).tolist() == [
        LONGEST_SENTENCE,
        LONGEST_SENTENCE,
        300 - 2 * LONGEST_SENTENCE,
        1,
        1,
    ]
    assert corpus.document_starts.tolist() == [0, 4, 5]


def test_huge_lines_and_documents_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "LONGEST_DOCUMENT", 100)
    (tmp_path / "a.txt").write_text("好" * 250 + "\n" + "\n".join("x" * 40 for _ in range(9)) + "\n\nlast\n", "utf-8")
    found = list(read_documents(tmp_path / "a.txt"))
    assert max(sum(map(len, d)) for d in found) <= 100
    assert "".join(line for d in found for line in d) == "好" * 250 + "x" * 360 + "last"
    assert found[-1] == ["last"]
    (tmp_path / "a.jsonl").write_text('{"text": "' + "y" * 250 + "\\n" + 'z"}\n', "utf-8")
    assert [sum(map(len, d)) for d in read_documents(tmp_path / "a.jsonl")] == [100, 100, 51]


def test_files_of_every_kind(tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one film.\n\ntwo films.\n"))
    (tmp_path / "b.jsonl").write_text('{"text": "好 film"}\n')
    inputs = [str(tmp_path / "a.txt.gz"), str(tmp_path / "b.jsonl")]
    assert build_from_files(inputs, tokenizer, tmp_path / "corpus").documents == 3
    (tmp_path / "c.txt").write_bytes(b"\x7fELF\x00\x01")
    with pytest.raises(InputError, match=r"c\.txt, line 1: there is a zero byte; this is no text file"):
        build_from_files([str(tmp_path / "c.txt")], tokenizer, tmp_path / "binary")
    with pytest.raises(InputError, match=r"none\.txt: there is no such file"):
        build_from_files([str(tmp_path / "none.txt")], tokenizer, tmp_path / "none")
    assert not list(tmp_path.glob("*none*"))


def test_zstandard_and_lists_of_lines(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import pyarrow

    text = '{"text": ["one film.", "two films."]}\n{"text": null}\n{"text": "half \\ud83d"}\n'
    (tmp_path / "a.jsonl.zst").write_bytes(pyarrow.Codec("zstd").compress(text.encode(), asbytes=True))
    corpus = build_from_files([str(tmp_path / "a.jsonl.zst")], tokenizer, tmp_path / "corpus", quiet=True)
    assert corpus.documents == 2
    (tmp_path / "b.jsonl").write_text('{"text": {"a": 1}}\n')
    with pytest.raises(InputError, match="line 1: column 'text' holds an object"):
        build_from_files([str(tmp_path / "b.jsonl")], tokenizer, tmp_path / "b", quiet=True)


def test_what_can_be_read_but_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A pipe: no size, nothing to seek in."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("One text. Of two.\n\nAnother.\n",))
    writer.start()
    corpus = build_from_files([str(tmp_path / "pipe")], tokenizer, tmp_path / "corpus", quiet=True)
    writer.join()
    assert corpus.documents == 2


def test_numbers_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 0}\n{"text": null}\n{"text": 7}\n')
    assert list(build_module.read_documents(tmp_path / "a.jsonl")) == [["0"], ["7"]]


def test_words_that_are_never_cut_are_not_learned_from() -> None:
    """Their time would grow with the square of their length: 30,000 letters took seconds."""
    blob = "".join(random.Random(0).choices("abcdefgh", k=200_000))
    started = time.monotonic()
    trained = Tokenizer.train(["a short word and another word", blob, "b" * 100], 200)
    assert time.monotonic() - started < 10
    learned = set("".join(json.loads(trained.to_json())["model"]["vocab"]))
    assert "b" in learned
    assert not learned & set("cfg")


def test_a_vocabulary_of_nothing_and_of_few_entries() -> None:
    with pytest.raises(InputError, match="no text in the input, so no vocabulary"):
        Tokenizer.train(["", " "], 100)
    letters = [chr(code) for code in range(0x61, 0x7B)] + [chr(code) for code in range(0x430, 0x450)]
    assert Tokenizer.train([a + b for a in letters for b in letters], 64).vocab_size <= 64
