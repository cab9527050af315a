"""The transfer set: texts and what a teacher answers to them (arXiv 1503.02531, section 2), on disk. It is made once, a
part after the other, then read at random.

    texts/
      settings.json           what decides all of it
      part-000000/
        tokens.npy            the tokens of the student, text after text
        lengths.npy           how many each text has
        answers.npy           (texts, width): the teacher's answers
      counted.json            that it is finished, and what was counted

A part appears whole or not at all, so a run that was killed goes on after the last.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bothways.corpus.shards import token_type
from bothways.distillation.texts import GivenText, Texts
from bothways.errors import InputError
from bothways.files.reading import Meter
from bothways.files.writing import new_directory, write_atomically
from bothways.progress import Progress
from bothways.tokenizer import Encoding, Tokenizer

PART = 4096
"""Texts; what a killed run has to do again at most."""
Answer = Callable[[Sequence[GivenText], int], np.ndarray]
"""Some texts, and the number of the first → (texts, width): what a teacher answers."""


@dataclass(frozen=True)
class TransferSet:
    """Texts as the student reads them, with the teacher's answers, which stay on disk until they are asked for."""

    directory: Path
    sep_id: int

    @cached_property
    def parts(self) -> list[Path]:
        """The directories of all parts, in order."""
        return parts_in(self.directory)

    @cached_property
    def counted(self) -> dict[str, int]:
        """How many `texts` there are, and how many of them were `truncated`."""
        return json.loads((self.directory / "counted.json").read_text("utf-8"))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(texts,) int64: the tokens of each."""
        return np.concatenate([np.load(part / "lengths.npy") for part in self.parts]).astype(np.int64)

    @cached_property
    def _tokens(self) -> np.ndarray:
        """All tokens, text after text; in memory, two bytes each where a vocabulary has fewer than 65,536 entries."""
        return np.concatenate([np.load(part / "tokens.npy") for part in self.parts])

    @cached_property
    def _answers(self) -> list[np.ndarray]:
        return [np.load(part / "answers.npy", mmap_mode="r") for part in self.parts]

    @cached_property
    def _starts(self) -> np.ndarray:
        """(texts,) int64: where each text starts among all tokens."""
        return self.lengths.cumsum() - self.lengths

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """The teacher's answers to some texts: (n,) → (n, width) float32."""
        found = np.empty((len(rows), self._answers[0].shape[1]), np.float32)
        order = np.argsort(rows, kind="stable")
        parts, starts = np.unique(rows[order] // PART, return_index=True)
        for part, places in zip(parts, np.split(order, starts[1:]), strict=True):
            found[places] = self._answers[part][rows[places] % PART]
        return found

    def every_answer(self, columns: slice) -> np.ndarray:
        """Some numbers of all answers: → (texts, n)."""
        return np.concatenate([part[:, columns] for part in self._answers])

    def packed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Some texts end to end: (tokens,) ids, (tokens,) segments and (n,) lengths, all int64."""
        starts, lengths = self._starts[rows], self.lengths[rows]
        first = lengths.cumsum() - lengths
        ids = self._tokens[np.arange(lengths.sum()) + np.repeat(starts - first, lengths)].astype(np.int64)
        ends = (ids == self.sep_id).cumsum() - (ids == self.sep_id)  # [SEP] before each token
        segments = ends - np.repeat(ends[first], lengths)
        return ids, np.minimum(segments, 1), lengths

    def encodings(self, rows: np.ndarray) -> list[Encoding]:
        """Some texts as the engine wants them."""
        ids, segments, lengths = self.packed(rows)
        ends = lengths.cumsum()
        return [
            Encoding(ids[start:end].astype(np.int32), segments[start:end].astype(np.int8))
            for start, end in zip(ends - lengths, ends, strict=True)
        ]


def parts_in(directory: Path) -> list[Path]:
    """The directories of all parts, in order."""
    return sorted(directory.glob("part-[0-9]*"))


def build_transfer_set(
    directory: Path,
    texts: Texts,
    tokenizer: Tokenizer,
    max_length: int,
    answer: Answer,
    *,
    dtype: type[np.floating],
    settings: Mapping[str, Any],
    quiet: bool = False,
) -> TransferSet:
    """Have a teacher `answer` all texts, and keep the answers with the tokens of the student in `directory`; what is
    there already stays.

    Raises InputError if it was begun with other `settings`, or if there is no text.
    """
    require_same(directory / "settings.json", settings)
    transfer_set = TransferSet(directory, tokenizer.sep_id)
    if (directory / "counted.json").is_file():
        return transfer_set
    done = len(parts_in(directory))
    meters = [Meter([path]) for path in texts.files]
    reader = texts.read(meters)
    skipped = sum(1 for _ in islice(reader, done * PART))
    total = texts.most or sum(meter.total for meter in meters)

    def bytes_read() -> int:
        return 0 if texts.most else sum(meter.done for meter in meters)

    def read() -> tuple[list[GivenText] | None, int]:
        return next(parts, None), bytes_read()

    begun = skipped if texts.most else bytes_read()
    progress = Progress("teacher", total, unit="texts" if texts.most else "bytes", begun=begun, quiet=quiet)
    started, count = time.perf_counter(), skipped
    parts = in_parts(reader)
    with progress, ThreadPoolExecutor(2) as others:  # the teacher should not wait for what others can do
        coming = others.submit(read)
        for number in itertools.count(done):
            part, far = coming.result()
            if part is None:
                break
            coming = others.submit(read)
            encoded = others.submit(encode, part, tokenizer, max_length)
            answers = answer(part, count).astype(dtype)
            note(directory / "settings.json", settings)  # not before there is something to go on from
            write_part(directory / f"part-{number:06}", encoded.result(), answers, token_type(tokenizer.vocab_size))
            count += len(part)
            speed = (count - skipped) / (time.perf_counter() - started)
            progress.update(count if texts.most else far, texts=count, texts_a_second=speed)
    if not count:
        raise InputError(f"{texts.files[0]}: there is no text to learn from; name other files.")
    cut = sum(json.loads((part / "counted.json").read_text("utf-8"))["truncated"] for part in parts_in(directory))
    write_atomically(directory / "counted.json", json.dumps({"texts": count, "truncated": cut}))
    return transfer_set


def in_parts(texts: Iterator[GivenText]) -> Iterator[list[GivenText]]:
    """Some thousand texts at a time."""
    while part := list(islice(texts, PART)):
        yield part


def encode(texts: Sequence[GivenText], tokenizer: Tokenizer, max_length: int) -> list[Encoding]:
    """Texts, or pairs, as the student reads them."""
    pairs = None if texts[0].pair is None else [given.pair or "" for given in texts]
    return tokenizer.encode_batch([given.text for given in texts], pairs, max_length=max_length)


def write_part(path: Path, encodings: Sequence[Encoding], answers: np.ndarray, dtype: str) -> None:
    """Write one part, whole or not at all; `dtype` is that of tokens."""
    with new_directory(path, overwrite=True) as scratch:
        np.save(scratch / "tokens.npy", np.concatenate([encoding.token_ids for encoding in encodings]).astype(dtype))
        np.save(scratch / "lengths.npy", np.array([len(encoding) for encoding in encodings], np.int32))
        np.save(scratch / "answers.npy", answers)
        truncated = sum(encoding.dropped > 0 for encoding in encodings)
        (scratch / "counted.json").write_text(json.dumps({"truncated": truncated}), "utf-8")


def require_same(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise InputError if the texts and answers were begun with other settings."""
    if not path.is_file():
        return
    now = json.loads(json.dumps(settings))
    before = json.loads(path.read_text("utf-8"))
    for name in sorted({*now, *before}):
        if now.get(name) != before.get(name):
            raise InputError(
                f"{path}: this run was started with other {name} ({before.get(name)!r}, not {now.get(name)!r}); go on "
                f"with the same or start anew with --overwrite."
            )


def note(path: Path, settings: Mapping[str, Any]) -> None:
    """Write down what decides the texts and answers, if it is not there."""
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(settings))
