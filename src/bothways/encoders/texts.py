"""What the shipped encoders learn from their teacher: passages of the texts of a recipe, some of them rewritten, so
that traditional characters, full-width letters and emoji are known, too.

    passages.txt      one passage a line
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from bothways.distillation.texts import Passages, Texts
from bothways.errors import InputError
from bothways.files.writing import writing
from bothways.progress import Progress
from bothways.randomness import uniform
from bothways.tokenizer import Tokenizer

TRADITIONAL, FULL_WIDTH, EMOJI = 0.1, 0.02, 0.04
"""Shares of the passages that are rewritten so."""
FULL_WIDTH_LETTERS = {ord(letter): ord(letter) + 0xFEE0 for letter in map(chr, range(0x21, 0x7F)) if letter.isalnum()}
COMMON_EMOJI = (
    "😂❤😍🤣😊🙏💕😭😘👍😅👏😁🔥💔💖💙😢🤔😆🙄💪😉👌🤗💜😔😎😇🌹🎉💞✌✨🤷😱😌🌸🙌😋💗💚😏💛🙂💓🤩😄😀🖤😃💯🙈👇🎶😒🤭"
    "❣☺👀😪😑💥🙋👎😡😤😞😠😩😳🤦🤮😖😣😫😥😰🙃😐😓😵😷🤒🤢👿💀👻🙁☹✅❌⚠⭐🌟☀🌈🌙⚡❄🎂🎁🎈🏆⚽🏀🎮🎵🎬📷💻📱💰📈📉🚗✈"
    "🏠🏨🍔🍕🍜🍺☕🍎🐶🐱🐼🌳🌍🚀⏰📚✏💡🔒🔑💊🏥🛒👕👗💄💍"
)


class Rewriting:
    """Rewrites some passages."""

    def __init__(self, language: str, seed: int) -> None:
        """`language`: ISO 639-1 code."""
        self.seed, self.chinese = seed, language == "zh"
        if self.chinese:
            self.to_traditional = opencc("s2t")

    def __call__(self, passage: str, number: int) -> str:
        """`number`: of the passage, which decides what happens to it."""
        script, width, emoji, which, end = uniform(self.seed, np.array([number]), draws=5, stream=6)[:, 0]
        if self.chinese and script < TRADITIONAL:
            passage = self.to_traditional(passage)
        if self.chinese and width < FULL_WIDTH:
            passage = passage.translate(FULL_WIDTH_LETTERS)
        if emoji < EMOJI:
            chosen = COMMON_EMOJI[int(which * len(COMMON_EMOJI))]
            passage = f"{passage} {chosen}" if end < 0.7 else f"{chosen} {passage}"
        return passage


def write_passages(
    sources: Mapping[str | os.PathLike, int], out: Path, *, language: str, longest: int, seed: int = 0
) -> None:
    """Write passages of `sources` (file → how many at most) to `out`, one a line."""
    rewrite = Rewriting(language, seed)
    total, number = sum(sources.values()), 0
    with writing(out) as stream, Progress("passages", total, unit="texts") as progress:
        for file, most in sources.items():
            for given in Texts([file], divide=Passages(longest, seed), most=most).read():
                stream.write(rewrite(" ".join(given.text.split()), number) + "\n")
                number += 1
                if number % 10_000 == 0:
                    progress.update(number)


def missing_entries(language: str, tokenizer: Tokenizer, known: Iterable[str]) -> dict[str, str | None]:
    """Entries that a vocabulary learned from the texts lacks → the entry that each is like, if there is one: emoji,
    full-width letters and, of those that the teacher knows (`known`), other Chinese characters."""
    there = set(tokenizer.tokens(range(tokenizer.vocab_size)))
    found: dict[str, str | None] = {}
    for emoji in COMMON_EMOJI:
        found |= {emoji: None, "##" + emoji: None}
    if language == "zh":
        to_simplified = opencc("t2s")
        for plain, wide in FULL_WIDTH_LETTERS.items():
            letter, other = chr(plain).lower(), chr(wide).lower()
            found |= {other: letter, "##" + other: "##" + letter}
        chinese = (piece for piece in known if len(piece) == 1 and "\u4e00" <= piece <= "\u9fff")
        found |= {letter: to_simplified(letter) for letter in chinese}
    return {entry: like if like in there else None for entry, like in found.items() if entry not in there}


def opencc(way: str) -> Callable[[str], str]:
    """What writes Chinese with other characters, such as `s2t`. Raises InputError if its package is missing."""
    try:
        from opencc import OpenCC
    except ImportError:
        raise InputError("Traditional characters need the package opencc; install it with pip.") from None
    return OpenCC(way).convert
