"""Texts to learn from: passages of all lengths, rows and lines, always in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bothways.distillation.texts import GivenText, Passages, Texts, about_tokens
from bothways.errors import InputError

DOCUMENT = [f"Here is number {i} of them. 这是第{i}句。不长也不短！" for i in range(300)]


def test_passages_are_neighbouring_sentences_of_all_lengths() -> None:
    passages = list(Passages(64)(DOCUMENT, np.array([0, 0])))
    assert "".join(passages).replace(" ", "") == "".join(DOCUMENT).replace(" ", "")
    lengths = np.array([about_tokens(passage) for passage in passages])
    assert lengths.max() <= 64
    assert 0.2 < (lengths < 16).mean() < 0.6
    assert 0.2 < (lengths > 32).mean() < 0.6


def test_passages_are_the_same_for_the_same_seed() -> None:
    one, again, other = (list(Passages(64, seed)(DOCUMENT, np.array([0, 0]))) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    assert one != list(Passages(64, 0)(DOCUMENT, np.array([0, 1])))


def test_a_passage_without_letters_is_none() -> None:
    assert list(Passages(64)(["* * *", "—"], np.array([0, 0]))) == []


def test_files_take_turns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a one\n\na two\na three\n", "utf-8")
    (tmp_path / "b.csv").write_text("text\nb one\nb two\n", "utf-8")
    texts = Texts([tmp_path / "a.txt", tmp_path / "b.csv"])
    assert [given.text for given in texts.read()] == ["a one", "b one", "a two", "b two", "a three"]
    assert [given.text for given in Texts(texts.files, most=3).read()] == ["a one", "b one", "a two"]


def test_pairs_come_from_two_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": "好", "a": None}) + "\n", "utf-8")
    assert list(Texts([tmp_path / "a.jsonl"], ("q", "a")).read()) == [GivenText("好", "")]
    (tmp_path / "a.txt").write_text("好", "utf-8")
    with pytest.raises(InputError, match=r"a\.txt: the teacher reads pairs"):
        Texts([tmp_path / "a.txt"], ("q", "a"))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title\nb one\n", "utf-8")
    with pytest.raises(InputError, match=r"a\.csv, line 2: there is no column 'text'"):
        list(Texts([tmp_path / "a.csv"]).read())
