"""Texts on which an export is checked if none are given: both languages, short and long, and what is untidy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from bothways.errors import InputError
from bothways.inference.engine import Engine
from bothways.inference.given import given_rows
from bothways.tables.table import Columns
from bothways.tasks.tags import words_of
from bothways.tokenizer import Text

MOST = 1000
"""So many rows of a table at most."""
SENTENCES = (
    "A film to remember.",
    "The parcel came two weeks late, and half of what I had ordered was missing.",
    "How do I change the address of my account?",
    "Shares fell by 3.2% on Friday after the company said that profits would be lower than expected this year.",
    "I would not go there again, although the staff were kind and the room was clean.",
    "值得一看。",
    "这家酒店离地铁站很近，房间也很干净，就是早餐种类少了一点。",
    "请问怎样修改收货地址？",
    "昨天晚上，国家队在主场以二比一战胜了对手，提前一轮小组出线。",
    "屏幕很好，但是电池不行，用了半天就没电了；客服说可以换，希望快一点。",
    "iPhone 的屏幕 is great, 但 battery life 太短 :(",
    "Naïve café, ÉCOLE, ﬁn, １２３, 100 %, #great @you https://example.org/?q=1 😀",
    "",
    "!",
)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Texts, or pairs of texts, as the model reads them."""

    texts: Sequence[Text]
    pairs: Sequence[Text] | None

    def __getitem__(self, chosen: slice) -> Samples:
        """Some of them."""
        return Samples(texts=self.texts[chosen], pairs=None if self.pairs is None else self.pairs[chosen])


def samples_of(engine: Engine, file: str | None) -> Samples:
    """The first texts of a table (or of standard input, `-`); without one, `SENTENCES` and longer texts made of them.

    Raises InputError for a table that lacks a column that the model reads, or that has no row.
    """
    names = engine.config.text_columns
    if file is None:
        longer = [" ".join(SENTENCES[i:] + SENTENCES[:i]) for i in range(0, len(SENTENCES), 3)]
        texts: list[Text] = [*SENTENCES, *longer, " ".join(longer)]
        if engine.pretokenized:
            texts = [words_of(str(text)) for text in texts]
        return Samples(texts=texts, pairs=texts[1:] + texts[:1] if len(names) > 1 else None)
    columns = Columns(text=names[0], text_pair=names[1] if len(names) > 1 else None)
    rows = given_rows(file, columns, pretokenized=engine.pretokenized)
    found = list(islice(rows.windows(MOST), 1))
    if not found or not found[0].texts:
        raise InputError(f"{file}: there is no text to check the export on; name a table that has some.")
    return Samples(texts=found[0].texts, pairs=found[0].pairs if len(names) > 1 else None)
