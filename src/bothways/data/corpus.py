"""Documents in, token shards out: what pre-training reads, on disk, without ever being whole in memory.

corpus/
  corpus.json               counts, and the fingerprint of the tokenizer that cut it
  00000.tokens.npy          (tokens,)         every token of the shard, document after document
  00000.sentences.npy       (sentences + 1,)  where each sentence starts; the last entry is the end
  00000.documents.npy       (documents + 1,)  the sentence with which each document starts; the last is the end
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bothways.data.tables import READERS, read_rows
from bothways.errors import InputError
from bothways.storage import new_directory, read_lines
from bothways.tokenizer import Tokenizer

SENTENCE_END = re.compile(
    r"(?<=[。！？；…])(?![。！？；…”’」』）\"])"  # after Chinese marks, which need no space
    r"|(?<=[。！？；…][”’」』）\"])"  # after a quotation mark that closes one
    r"|(?<=[.!?])\s+(?=[\"'“‘(]?[A-Z0-9])"  # after English marks, before a capital or a number
    r"|(?<=[.!?][\"'”’)])\s+(?=[\"'“‘(]?[A-Z0-9])"
)

SHARD_TOKENS = 1 << 25


# ── Documents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_documents(path: str | os.PathLike, column: str = "text") -> Iterator[list[str]]:
    """The documents of a file, each as its lines.

    Plain text has a blank line between documents; a JSON-lines or Parquet row is a document, its text in `column`.
    """
    name = re.sub(r"\.(gz|bz2|xz|zst|zip)$", "", os.fspath(path))
    if any(name.endswith(endings) for endings in READERS):
        for where, cells in read_rows(path):
            if column not in cells:
                raise InputError(f"{path}, {where}: there is no column {column!r}; a document's text belongs there.")
            yield [line for line in str(cells[column] or "").splitlines() if line.strip()]
        return
    lines: list[str] = []
    for number, line in read_lines(path):
        if "\0" in line:
            raise InputError(f"{path}, line {number}: there is a zero byte; this is no text file.")
        if line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def split_sentences(line: str) -> list[str]:
    """A line (a sentence or a paragraph, English or Chinese) → its sentences."""
    return [sentence for part in SENTENCE_END.split(line) if (sentence := part.strip())]


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ShardWriter:
    """Gathers documents and writes a shard whenever enough tokens have come together."""

    def __init__(self, directory: Path, vocab_size: int) -> None:
        self.directory = directory
        self.dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        self.shards = self.documents = self.sentences = self.tokens = 0
        self._empty()

    def _empty(self) -> None:
        self._tokens: list[np.ndarray] = []
        self._sentence_starts = [0]
        self._document_starts = [0]

    def add(self, sentences: Sequence[Sequence[int]]) -> None:
        """Add one document: the token ids of its sentences. An empty one is passed over."""
        kept = [sentence for sentence in sentences if len(sentence)]
        if not kept:
            return
        for sentence in kept:
            self._tokens.append(np.array(sentence, self.dtype))
            self._sentence_starts.append(self._sentence_starts[-1] + len(sentence))
        self._document_starts.append(len(self._sentence_starts) - 1)
        if self._sentence_starts[-1] >= SHARD_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered as a shard."""
        if not self._tokens:
            return
        name = f"{self.shards:05}"
        np.save(self.directory / f"{name}.tokens.npy", np.concatenate(self._tokens))
        np.save(self.directory / f"{name}.sentences.npy", np.array(self._sentence_starts, np.int64))
        np.save(self.directory / f"{name}.documents.npy", np.array(self._document_starts, np.int64))
        self.shards += 1
        self.documents += len(self._document_starts) - 1
        self.sentences += len(self._sentence_starts) - 1
        self.tokens += self._sentence_starts[-1]
        self._empty()


def build_corpus(
    documents: Iterable[Sequence[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Corpus:
    """Cut documents (each its lines) into sentences and tokens and write them as a corpus directory.

    Raises InputError if there is no text, if `out` exists, or if the disk is full.
    """
    with new_directory(out, overwrite) as directory:
        writer = ShardWriter(directory, tokenizer.vocab_size)
        remaining = iter(documents)
        read = 0
        while group := list(islice(remaining, 1024)):
            sentences = [[s for line in document for s in split_sentences(line)] for document in group]
            encoded = iter(tokenizer.token_ids([s for document in sentences for s in document]))
            for document in sentences:
                writer.add(list(islice(encoded, len(document))))
            read += len(group)
            if not quiet and read % (1024 * 32) == 0:
                print(f"corpus  {read:,} documents read", file=sys.stderr, flush=True)
        writer.flush()
        if not writer.tokens:
            raise InputError(f"{out}: there is no text in the input, so no corpus was built.")
        description = {
            "format": 1,
            "tokenizer": tokenizer.fingerprint,
            "shards": writer.shards,
            "documents": writer.documents,
            "sentences": writer.sentences,
            "tokens": writer.tokens,
        }
        (directory / "corpus.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        tokenizer.save(directory)
    return Corpus.open(out)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Corpus:
    """A corpus directory, opened; tokens stay on disk until they are asked for."""

    directory: Path
    tokens: list[np.ndarray]
    """By shard: (tokens,) memory-mapped."""
    token_starts: np.ndarray
    """(sentences + 1,) int64: the token, counted over all shards, with which each sentence starts; then the end."""
    document_starts: np.ndarray
    """(documents + 1,) int64: the sentence, counted over all shards, with which each document starts."""
    tokenizer: Tokenizer

    @classmethod
    def open(cls, path: str | os.PathLike) -> Corpus:
        """Open what `build_corpus` has written. Raises InputError if a part is missing or damaged."""
        directory = Path(path)
        try:
            description = json.loads((directory / "corpus.json").read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: there is no corpus.json; build one with `bothways corpus build`.") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: corpus.json is not JSON ({error}); build the corpus again.") from None
        tokenizer = Tokenizer.load(directory)
        if tokenizer.fingerprint != description["tokenizer"]:
            raise InputError(f"{path}: the corpus was cut with another tokenizer; build it again.")
        tokens, sentences, documents = [], [], []
        tokens_before = sentences_before = 0
        for index in range(description["shards"]):
            try:
                parts = [
                    np.load(directory / f"{index:05}.{part}.npy", mmap_mode="r")
                    for part in ("tokens", "sentences", "documents")
                ]
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"{path}: shard {index:05} is missing or damaged ({error}); build the corpus again."
                ) from None
            if parts[1][-1] != len(parts[0]):
                raise InputError(f"{path}: shard {index:05} is cut short; build the corpus again.")
            tokens.append(parts[0])
            sentences.append(np.asarray(parts[1][:-1]) + tokens_before)
            documents.append(np.asarray(parts[2][:-1]) + sentences_before)
            tokens_before += len(parts[0])
            sentences_before += len(parts[1]) - 1
        return cls(
            directory,
            tokens,
            np.concatenate([*sentences, [tokens_before]]),
            np.concatenate([*documents, [sentences_before]]),
            tokenizer,
        )

    @property
    def fingerprint(self) -> str:
        """A digest of the description, which counts everything: equal for equal corpora."""
        return hashlib.sha256((self.directory / "corpus.json").read_bytes()).hexdigest()[:16]

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.document_starts) - 1

    def take(self, places: np.ndarray) -> np.ndarray:
        """The tokens at `places`, counted over all shards. (n,) int64 → (n,) int64"""
        taken = np.empty(len(places), np.int64)
        start = 0
        for shard in self.tokens:
            here = (places >= start) & (places < start + len(shard))
            taken[here] = shard[places[here] - start]
            start += len(shard)
        return taken
