"""Documents in, a corpus out: split into sentences and tokenized by several processes, written front to back.

Nothing is ever whole in memory: documents are read in groups of about a megabyte, some groups are under way at a time,
and what comes back goes straight into the files. Where shards and groups end is decided by the documents alone, so any
number of processes writes the same bytes, and a build that was killed goes on after the last whole shard.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from bothways.corpus.documents import read_documents
from bothways.corpus.duplicates import Duplicates, Seen
from bothways.corpus.shards import ARRAYS, FORMAT, Corpus, token_type
from bothways.corpus.tokenization import Document, DocumentTokenizer, TokenizedDocuments
from bothways.corpus.word_segmentation import Words, segmenter
from bothways.errors import InputError
from bothways.files.names import without_secrets
from bothways.files.reading import Meter, digest_of_beginning, size_of
from bothways.files.writing import (
    LOCK,
    exclusive_directory,
    explain_disk_errors,
    flush,
    refuse_existing,
    replace_directory,
    write_atomically,
)
from bothways.progress import Progress
from bothways.tokenizer import Tokenizer

GROUP_CHARACTERS = 1 << 20
"""Characters handed to a process at a time."""
SHARD_TOKENS = 1 << 24
"""Tokens after which a shard is closed; what a killed build has to do again at most."""
SMALL = 1 << 23
"""Bytes of input for which more processes are not worth their start."""


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


_tokenize_documents: DocumentTokenizer


def _begin(parent: int, tokenizer: str, duplicates: Duplicates, words: Words) -> None:
    """Make this process ready to tokenize, and have it end with its parent, which may be killed."""
    global _tokenize_documents
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process has one core
    _tokenize_documents = DocumentTokenizer(Tokenizer(tokenizers.Tokenizer.from_str(tokenizer)), duplicates, words)


def _end_with(parent: int) -> None:
    """Wait until another process has taken the parent's place, and end."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _tokenize(group: Sequence[Document]) -> TokenizedDocuments:
    return _tokenize_documents(group)


def groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in groups of about `GROUP_CHARACTERS`."""
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += sum(map(len, document)) + 1
        if characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def in_order(
    work: Callable[[Any], Any], items: Iterable[Any], pool: ProcessPoolExecutor, ahead: int
) -> Iterator[tuple[Any, Any]]:
    """(item, work(item)) in the order of the items, at most `ahead` of them under way."""
    under_way: deque[tuple[Any, Future]] = deque()
    for item in items:
        under_way.append((item, pool.submit(work, item)))
        if len(under_way) >= ahead:
            first, future = under_way.popleft()
            yield first, future.result()
    for first, future in under_way:
        yield first, future.result()


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ShardWriter:
    """Writes what comes to the files of one shard after the other, and notes every whole shard in a journal."""

    def __init__(self, directory: Path, vocab_size: int, settings: dict[str, Any]) -> None:
        """Goes on after the last whole shard of `directory`, if it was begun with the same settings."""
        self.directory, self.settings = directory, settings
        self.types = ARRAYS | {"tokens": token_type(vocab_size)}
        self.journal: dict[str, Any] = {"settings": settings, "read": 0, "shards": []}
        if (directory / "journal.json").is_file():
            try:
                found = json.loads((directory / "journal.json").read_text("utf-8"))
            except ValueError:
                raise InputError(
                    f"{directory}: journal.json, which says how far the build had come, is damaged; start anew with "
                    f"--overwrite."
                ) from None
            if found["settings"] != settings:
                raise InputError(
                    f"{directory}: this build was begun with other inputs or settings; go on with the same or start "
                    f"anew with --overwrite."
                )
            self.journal = found
        directory.mkdir(parents=True, exist_ok=True)
        self.read = int(self.journal["read"])
        """Documents read so far."""
        self.tokens = sum(shard["tokens"] for shard in self.journal["shards"])
        """Tokens written so far."""
        self._seen = Seen()
        for index in range(len(self.journal["shards"])):
            self._seen.add(np.fromfile(self._path(index, "keys"), np.uint64))
        self._open()

    def _path(self, index: int, name: str) -> Path:
        return self.directory / f"{index:05}.{name}"

    def _open(self) -> None:
        index = len(self.journal["shards"])
        self._files = {name: self._path(index, name).open("wb") for name in (*self.types, "keys")}
        self._digests = {name: hashlib.sha256() for name in self.types}
        self._counts = dict.fromkeys((*self.types, "dropped"), 0)
        self._bits = np.empty(0, bool)

    def add(self, tokenized: TokenizedDocuments, read: int) -> None:
        """Add `read` documents, but for those without text and those that were there before."""
        fresh = np.array([not self._seen.before(known) for known in tokenized.keys] or True)
        for known in tokenized.keys:
            self._files["keys"].write(known.tobytes())
        keep = fresh & (tokenized.documents > 0)
        sentences = np.repeat(keep, tokenized.documents)
        tokens = np.repeat(sentences, tokenized.sentences)
        self._write("tokens", tokenized.tokens[tokens])
        self._write_bits(tokenized.continues[tokens])
        self._write("sentences", tokenized.sentences[sentences])
        self._write("documents", tokenized.documents[keep])
        self._counts["dropped"] += int((~fresh & (tokenized.documents > 0)).sum())
        self.tokens += int(tokens.sum())
        self.read += read
        if self._counts["tokens"] >= SHARD_TOKENS:
            self.close()
            self._open()

    def _write(self, name: str, values: np.ndarray) -> None:
        content = values.astype(self.types[name]).tobytes()
        self._files[name].write(content)
        self._digests[name].update(content)
        self._counts[name] += len(values)

    def _write_bits(self, bits: np.ndarray) -> None:
        """Eight to a byte; what is left over waits for the next."""
        bits = np.concatenate((self._bits, bits))
        whole = len(bits) // 8 * 8
        self._write("continues", np.packbits(bits[:whole], bitorder="little"))
        self._bits = bits[whole:]

    def close(self) -> None:
        """Close the shard at hand; an empty one leaves nothing."""
        self._write("continues", np.packbits(self._bits, bitorder="little"))
        total = hashlib.sha256()
        for name in ARRAYS:
            total.update(self._digests[name].digest())
        self.abandon()
        paths = {name: Path(file.name) for name, file in self._files.items()}
        if self._counts["tokens"]:
            for path in paths.values():
                flush(path)
            sizes = {name: paths[name].stat().st_size for name in self.types}
            self.journal["shards"].append({"bytes": sizes, "sha256": total.hexdigest(), **self._counts})
        else:
            for path in paths.values():
                path.unlink()
        self.journal["read"] = self.read
        write_atomically(self.directory / "journal.json", json.dumps(self.journal))

    def abandon(self) -> None:
        """Close the files as they are."""
        for file in self._files.values():
            file.close()

    def finish(self, tokenizer: Tokenizer, out: Path) -> None:
        """Write corpus.json and the tokenizer, and take the place of `out`.

        The journal stays until then, so that what is killed here can be gone on with, too.
        """
        self.close()
        shards = self.journal["shards"]
        description = {
            "format": FORMAT,
            "tokenizer": tokenizer.fingerprint,
            "duplicates": self.settings["duplicates"],
            "words": self.settings["words"],
            **{name: sum(shard[name] for shard in shards) for name in ("documents", "sentences", "tokens", "dropped")},
            "shards": shards,
        }
        tokenizer.save(self.directory)
        write_atomically(self.directory / "corpus.json", json.dumps(description, indent=2) + "\n")
        replace_directory(self.directory, out)
        tidy(out)


def tidy(corpus: Path) -> None:
    """Remove from a finished corpus what only its build needed; a build killed at the very end leaves it."""
    for left_over in (*corpus.glob("*.keys"), corpus / "journal.json", corpus / LOCK):
        left_over.unlink(missing_ok=True)


# ── The whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


def build_corpus(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: str | os.PathLike,
    *,
    duplicates: Duplicates = "keep",
    words: Words = "spaces",
    processes: int = 1,
    inputs: Sequence[str] = (),
    progress: Callable[[int], None] = lambda tokens: None,
    resume: bool = False,
    overwrite: bool = False,
) -> Corpus:
    """TokenizedDocuments documents (each its lines) into sentences and tokens and write them as a corpus directory.

    Until it is finished the build lives in a directory beside `out`, called `OUT.run`; with `resume` one that was
    killed goes on after its last whole shard (`documents` must be the same again, which `inputs`, any description of
    them, is compared for). `progress` is told the tokens written so far. Raises InputError if there is no text, if
    `out` exists, or if the disk is full.
    """
    out = Path(out)
    refuse_existing(out, overwrite)
    unfinished = out.with_name(out.name + ".run")
    if unfinished.exists() and not resume and not overwrite:
        raise InputError(f"{unfinished} holds an unfinished build; add --resume to go on or --overwrite.")
    settings = {"tokenizer": tokenizer.fingerprint, "duplicates": duplicates, "words": words, "inputs": list(inputs)}
    with exclusive_directory(unfinished, anew=not resume), explain_disk_errors(out):
        writer = ShardWriter(unfinished, tokenizer.vocab_size, settings)
        try:
            for group, tokenized in tokenized_groups(
                islice(documents, writer.read, None), tokenizer, duplicates, words, processes
            ):
                writer.add(tokenized, len(group))
                progress(writer.tokens)
            if not writer.tokens:
                raise InputError(f"{out}: there is no text in the input, so no corpus was built.")
            writer.finish(tokenizer, out)
        finally:
            writer.abandon()
            if not writer.journal["shards"]:  # nothing that a later build could go on from
                shutil.rmtree(unfinished, ignore_errors=True)
    return Corpus.open(out, verify=False)


def tokenized_groups(
    documents: Iterable[Document], tokenizer: Tokenizer, duplicates: Duplicates, words: Words, processes: int
) -> Iterator[tuple[list[Document], TokenizedDocuments]]:
    """Groups of documents as they are and tokenized, in order, by this process or by several others."""
    if processes == 1:
        tokenize = DocumentTokenizer(tokenizer, duplicates, words)
        yield from ((group, tokenize(group)) for group in groups(documents))
        return
    begin = (os.getpid(), tokenizer.to_json(), duplicates, words)
    segmenter(words)  # what is not installed is said here and not by a process that dies
    try:
        # A fork starts at once; with threads about it could inherit a lock that will never be released.
        alone = sys.platform == "linux" and threading.active_count() == 1
        context = multiprocessing.get_context("fork" if alone else "spawn")
        with ProcessPoolExecutor(processes, context, _begin, begin) as pool:
            yield from in_order(_tokenize, groups(documents), pool, 2 * processes)
    except BrokenProcessPool:
        raise InputError(
            "A process that tokenized documents was killed, for instance for want of memory; go on with --resume and "
            "fewer --processes."
        ) from None


def build_from_files(
    inputs: Sequence[str],
    tokenizer: Tokenizer,
    out: str | os.PathLike,
    *,
    duplicates: Duplicates = "keep",
    words: Words = "spaces",
    processes: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Corpus:
    """`build_corpus` from files, with progress in bytes. `processes`: 0 is one for each core, or one if there is little
    to do."""
    refuse_existing(out, overwrite, reads=inputs)
    if processes < 0:
        raise InputError(f"--processes is {processes}; give 1 or more, or 0 for one a core.")
    meter = Meter(inputs)
    documents = chain.from_iterable(read_documents(path, meter=meter) for path in inputs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with Progress("corpus", meter.total, unit="bytes", quiet=quiet) as bar:
        started = time.monotonic()

        def progress(tokens: int) -> None:
            bar.update(meter.done, tokens=tokens, tokens_a_second=tokens / (time.monotonic() - started))

        return build_corpus(
            documents,
            tokenizer,
            out,
            duplicates=duplicates,
            words=words,
            processes=processes or (cores if meter.total > SMALL else 1),
            inputs=[f"{without_secrets(path)} {size_of(path)} {digest_of_beginning(path)}" for path in inputs],
            progress=progress,
            resume=resume,
            overwrite=overwrite,
        )
