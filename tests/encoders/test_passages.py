"""Passages for a teacher, some of them written as others write."""

from __future__ import annotations

from pathlib import Path

from bothways.encoders.texts import COMMON_EMOJI, FULL_WIDTH_LETTERS, missing_entries, write_passages
from bothways.formats.hub import locate
from bothways.tokenizer import Tokenizer


def test_some_are_written_as_others_write(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"这里的书很贵 No{i}。" for i in range(1500)), "utf-8")
    (tmp_path / "b.txt").write_text("国家。\n", "utf-8")
    sources = {tmp_path / "a.txt": 1000, tmp_path / "b.txt": 5}
    write_passages(sources, tmp_path / "out.txt", language="zh", longest=64)
    write_passages(sources, tmp_path / "again.txt", language="zh", longest=64)
    lines = (tmp_path / "out.txt").read_text("utf-8").splitlines()
    assert (tmp_path / "again.txt").read_text("utf-8").splitlines() == lines
    assert len(lines) == 1001
    assert 60 < sum("書很貴" in line for line in lines) < 140
    assert 5 < sum("Ｎｏ" in line for line in lines) < 40
    assert 20 < sum(any(emoji in line for emoji in COMMON_EMOJI) for line in lines) < 60


def test_english_stays_as_it_is_but_for_emoji(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"A good book, number {i}." for i in range(500)), "utf-8")
    write_passages({tmp_path / "a.txt": 500}, tmp_path / "out.txt", language="en", longest=64)
    lines = (tmp_path / "out.txt").read_text("utf-8").splitlines()
    changed = [line for i, line in enumerate(lines) if line != f"A good book, number {i}."]
    assert 0 < len(changed) < 50
    assert all(line[0] in COMMON_EMOJI or line[-1] in COMMON_EMOJI for line in changed)


def test_entries_that_a_vocabulary_lacks() -> None:
    """Traditional characters are like simplified ones; pieces of several characters are none, for each is a token."""
    learned = Tokenizer.load(locate("zh-mini")).tokens(range(12_000))  # the others were added afterwards
    tokenizer = Tokenizer.from_vocabulary({token: number for number, token in enumerate(learned)})
    entries = missing_entries("zh", tokenizer, ["國", "国", "中国", "電腦", "x", "é"])
    assert entries["國"] == "国"
    assert {"国", "中国", "電腦", "x", "é"}.isdisjoint(entries)
    assert entries["😂"] is None
    assert entries["##😂"] is None
    assert {chr(wide).lower() for wide in FULL_WIDTH_LETTERS.values()} <= {*entries, *tokenizer.tokens(range(12_000))}
    larger = tokenizer.extended(entries)
    assert larger.vocab_size == tokenizer.vocab_size + len(entries)
    assert larger.tokens(larger.encode("國ＡＢ好😂").token_ids) == ["[CLS]", "國", "ａ", "##ｂ", "好", "😂", "[SEP]"]
    assert larger.tokens(tokenizer.encode("中国 film").token_ids) == tokenizer.tokens(
        tokenizer.encode("中国 film").token_ids
    )
    assert all("國" not in entry for entry in missing_entries("en", Tokenizer.load(locate("en-mini")), ["國"]))
