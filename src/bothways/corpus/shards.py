"""A corpus: documents as token shards on disk, which pre-training reads without ever having them whole in memory.

    corpus/
      corpus.json        what was counted, the digest of every shard, and the fingerprint of its tokenizer
      tokenizer.json     that tokenizer
      00000.tokens       every token of the shard, document after document
      00000.continues    one bit a token: whether it continues the word before it
      00000.sentences    how many tokens each sentence has
      00000.documents    how many sentences each document has

The files of a shard are plain arrays of little-endian numbers (types in `ARRAYS`), written from front to back.
`corpus/build.py` writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import InputError
from bothways.tokenizer import Tokenizer

FORMAT = 2
ARRAYS = {"tokens": "<u2", "continues": "u1", "sentences": "<u2", "documents": "<u4"}
"""The arrays of a shard and their types; tokens of a vocabulary above 65,536 entries are "<u4"."""


def token_type(vocab_size: int) -> str:
    """The smallest type that holds every entry of a vocabulary."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


@dataclass(frozen=True)
class Corpus:
    """A corpus directory, opened; tokens stay on disk until they are asked for."""

    directory: Path
    tokens: list[np.ndarray]
    """By shard: (tokens,) memory-mapped."""
    continues: list[np.ndarray]
    """By shard: (tokens / 8, rounded up) uint8, memory-mapped: bits, the first token in the lowest."""
    token_starts: np.ndarray
    """(sentences + 1,) int64: the token, counted over all shards, with which each sentence starts; then the end."""
    document_starts: np.ndarray
    """(documents + 1,) int64: the sentence, counted over all shards, with which each document starts; then the end."""
    tokenizer: Tokenizer

    @classmethod
    def open(cls, path: str | os.PathLike, *, verify: bool = True) -> Corpus:
        """Open what `build.build_corpus` has written; to `verify` it, every shard is read and its digest checked.

        Raises InputError if a part is missing or damaged.
        """
        directory = Path(path)
        description = read_description(directory)
        tokenizer = Tokenizer.load(directory)
        if tokenizer.fingerprint != description["tokenizer"]:
            raise InputError(f"{path}: the corpus was built with another tokenizer; build it again.")
        types = ARRAYS | {"tokens": token_type(tokenizer.vocab_size)}
        shards: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
        for index, shard in enumerate(description["shards"]):
            for name, kind in types.items():
                file = directory / f"{index:05}.{name}"
                if not file.is_file() or file.stat().st_size != shard["bytes"][name]:
                    raise InputError(f"{file}: this part of the corpus is missing or truncated; build it again.")
                shards[name].append(np.memmap(file, kind, mode="r"))
            if verify and digest([shards[name][-1] for name in ARRAYS]) != shard["sha256"]:
                raise InputError(f"{path}: shard {index:05} is damaged (its digest does not match); build it again.")
        return cls(
            directory,
            shards["tokens"],
            shards["continues"],
            starts_of(shards["sentences"]),
            starts_of(shards["documents"]),
            tokenizer,
        )

    @property
    def fingerprint(self) -> str:
        """A digest of the description, which holds the digests of all shards: equal for equal corpora."""
        return hashlib.sha256((self.directory / "corpus.json").read_bytes()).hexdigest()[:16]

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.document_starts) - 1

    def document(self, index: int) -> np.ndarray:
        """The tokens of a document: (tokens,)."""
        start, end = self.token_starts[self.document_starts[index : index + 2]]
        return self.take(np.arange(start, end))[0]

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens at `places`, counted over all shards, and whether each continues a word.

        (n,) int64 → (n,) int64, (n,) bool
        """
        taken, continues = np.empty(len(places), np.int64), np.empty(len(places), bool)
        shards = np.searchsorted(self._shard_starts, places, side="right") - 1
        for shard in np.unique(shards):
            here = shards == shard
            at = places[here] - self._shard_starts[shard]
            taken[here] = self.tokens[shard][at]
            continues[here] = (self.continues[shard][at >> 3] >> (at & 7).astype(np.uint8)) & 1
        return taken, continues

    @cached_property
    def _shard_starts(self) -> np.ndarray:
        """(shards,) int64: the token, counted over all shards, with which each begins."""
        return np.cumsum([0, *(len(tokens) for tokens in self.tokens[:-1])])


def starts_of(lengths: list[np.ndarray]) -> np.ndarray:
    """(n,) lengths, in parts → (n + 1,) int64: where each begins, and the end."""
    return np.concatenate(([0], np.cumsum(np.concatenate(lengths), dtype=np.int64)))


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(n,) starts and lengths → all numbers of all ranges, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


def digest(arrays: list[np.ndarray]) -> str:
    """The SHA-256 of some arrays, one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(hashlib.sha256(array.data).digest())
    return total.hexdigest()


def is_described(shard: Any) -> bool:
    """Whether an entry of corpus.json says of a shard what opening it needs."""
    sizes = shard.get("bytes") if isinstance(shard, dict) else None
    return isinstance(sizes, dict) and ARRAYS.keys() <= sizes.keys() and "sha256" in shard


def read_description(directory: Path) -> Mapping[str, Any]:
    """The content of corpus.json."""
    try:
        description = json.loads((directory / "corpus.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{directory}: there is no corpus.json; build one with `bothways corpus build`.") from None
    except PermissionError:
        raise InputError(f"{directory}: you may not read corpus.json; change its permissions.") from None
    except ValueError as error:
        raise InputError(f"{directory}: corpus.json is not JSON ({error}); build the corpus again.") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{directory}: this corpus is of another format than {FORMAT}; build it again.")
    shards = description.get("shards")
    if not shards or "tokenizer" not in description or not all(map(is_described, shards)):
        raise InputError(f"{directory}: corpus.json is damaged; build the corpus again.")
    return description
