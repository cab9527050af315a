"""What a student reads: any unlabelled texts, from documents or tables, in an order that is always the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from bothways.corpus.documents import read_documents, split_sentences
from bothways.errors import InputError
from bothways.files.reading import Meter, digest_of_beginning, is_pipe, size_of
from bothways.language import CHINESE
from bothways.randomness import uniform
from bothways.tables.rows import cell, read_rows, reader_of
from bothways.tasks.cells import as_text

LETTERS_A_TOKEN = 4
"""Of text that is not Chinese, about; a Chinese character is a token."""
SHORTEST = 8
"""Tokens that a passage aims at, at least."""


class GivenText(NamedTuple):
    """A text, or a pair of texts."""

    text: str
    pair: str | None = None


Division = Callable[[Sequence[str], np.ndarray], Iterator[str]]
"""What divides the lines of a document into texts, given where the document stands: (file, document)."""


def lines(document: Sequence[str], place: np.ndarray) -> Iterator[str]:
    """Every line of a document is a text."""
    yield from document


@dataclass(frozen=True)
class Passages:
    """Divides a document into passages of neighbouring sentences, from a single one up to about `longest` tokens, since
    what is classified one day may be short or long. Where they end is by chance, the same for the same `seed`."""

    longest: int
    seed: int = 0

    def __call__(self, document: Sequence[str], place: np.ndarray) -> Iterator[str]:
        sentences = [sentence for line in document for sentence in split_sentences(line)]
        if not sentences:
            return
        chance = uniform(self.seed, *place[:, None], draws=len(sentences), stream=3)[:, 0]
        aims = SHORTEST * (self.longest / SHORTEST) ** chance  # as many short as long ones, by the factor
        passage, tokens, aim = "", 0.0, aims[0]
        for sentence, next_aim in zip(sentences, aims, strict=True):
            added = about_tokens(sentence)
            if passage and tokens + added > aim:
                yield from says_something(passage)
                passage, tokens, aim = "", 0.0, next_aim
            space = "" if not passage or CHINESE.search(sentence) else " "
            passage, tokens = passage + space + sentence, tokens + added
        yield from says_something(passage)


def says_something(passage: str) -> Iterator[str]:
    """The passage, if there is a letter or a number in it."""
    if any(map(str.isalnum, passage)):
        yield passage


def about_tokens(text: str) -> float:
    """How many tokens a text has, about, whichever tokenizer reads it."""
    chinese = len(CHINESE.findall(text))
    return chinese + (len(text) - chinese) / LETTERS_A_TOKEN


@dataclass(frozen=True)
class Texts:
    """The texts of some files: the rows of tables as they are, and documents divided by `divide`. One text of each file
    in turn, so that the first of them are of all files."""

    files: Sequence[str | os.PathLike]
    columns: Sequence[str] = ("text",)
    """Of tables: the column of the text, or of both texts of a pair."""
    divide: Division = lines
    most: int | None = None
    """So many texts are read at most; None: all."""

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError("Name one file of texts at least.")
        if pipes := [path for path in self.files if is_pipe(path)]:
            raise InputError(f"{pipes[0]}: texts are read more than once, so name a file, not a pipe.")
        if len(self.columns) == 2 and (documents := [path for path in self.files if reader_of(path) is None]):
            raise InputError(f"{documents[0]}: the teacher reads pairs of texts; give tables, which have two columns.")

    def read(self, meters: Sequence[Meter] = ()) -> Iterator[GivenText]:
        """One text after the other. `meters`: one for each file. Raises InputError for what is no text."""
        return islice(self._in_turn(meters or [Meter([path]) for path in self.files]), self.most)

    def _in_turn(self, meters: Sequence[Meter]) -> Iterator[GivenText]:
        readers = [
            self._documents(number, path, meter) if reader_of(path) is None else self._rows(path, meter)
            for number, (path, meter) in enumerate(zip(self.files, meters, strict=True))
        ]
        while readers:
            for reader in list(readers):
                text = next(reader, None)
                if text is None:
                    readers.remove(reader)
                else:
                    yield text

    def _documents(self, number: int, path: str | os.PathLike, meter: Meter) -> Iterator[GivenText]:
        for count, document in enumerate(read_documents(path, meter=meter)):
            yield from map(GivenText, self.divide(document, np.array([number, count])))

    def _rows(self, path: str | os.PathLike, meter: Meter) -> Iterator[GivenText]:
        for where, cells in read_rows(path, meter=meter):
            found = [cell(cells, column, f"{path}, {where}") for column in self.columns]
            texts = [
                "" if value is None else as_text(value, column, f"{path}, {where}")
                for value, column in zip(found, self.columns, strict=True)
            ]
            yield GivenText(*texts)

    @property
    def identity(self) -> list[list[str | int]]:
        """What tells these files from others, as JSON."""
        return [[size_of(path), digest_of_beginning(path)] for path in self.files]
