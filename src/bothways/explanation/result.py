"""What an explanation says, for a person, a page or a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bothways.batch import Predictions
from bothways.explanation.words import Reading, Word
from bothways.tasks import Task
from bothways.tasks.scores import rounded


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Whether contributions add up to what they share out."""

    sum: float
    """Of all contributions."""
    difference: float
    """Of the evidence between the text and the baseline: what the sum should be."""
    steps: int
    """At how many points the gradient was taken."""

    @property
    def gap(self) -> float:
        """How far the sum is from what it should be."""
        return abs(self.sum - self.difference)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One decision and what each word contributes to it."""

    label: str | None
    """The label that is explained; None for a number."""
    score: float
    """Its probability, or the number."""
    word: int | None = None
    """The word whose tag it is; None: it is about the whole text."""
    contributions: tuple[float | None, ...]
    """For each word how much it speaks for the label (above 0) or against it; None for one that was not read."""
    scores_without: tuple[float | None, ...] | None = None
    """The score if a word is left out, if that was tried."""
    completeness: Completeness | None = None
    """Of integrated gradients."""

    def strongest(self, most: int) -> list[int]:
        """The words that contribute most, for or against, the strongest first."""
        read = [i for i, contribution in enumerate(self.contributions) if contribution is not None]
        return sorted(read, key=lambda i: -abs(self.contributions[i] or 0.0))[:most]

    def as_json(self) -> dict[str, Any]:
        """`{"label", "score", "word", "contributions", "scores_without", "completeness"}`, the last two if known."""
        said: dict[str, Any] = {"label": self.label, "score": rounded(self.score), "word": self.word}
        said["contributions"] = shortened(self.contributions)
        if self.scores_without is not None:
            said["scores_without"] = shortened(self.scores_without)
        if self.completeness is not None:
            told = asdict(self.completeness) | {"gap": self.completeness.gap}
            said["completeness"] = {name: round(value, 6) for name, value in told.items()}
        return said


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A row of the training table that the encoder finds alike."""

    row: int
    """From 1, in the order of the rows that were trained on."""
    text: str
    pair: str | None
    similarity: float
    """Cosine of the angle between both."""
    outputs: dict[str, str | None]
    """What the table says of it, by output."""

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self) | {"similarity": rounded(self.similarity)}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a model says what it says of one text."""

    text: str
    pair: str | None
    method: str
    """How contributions were found: words or gradients."""
    output: str
    """The output layer."""
    unit: str
    """What contributions are measured in."""
    words: tuple[Word, ...]
    explained: tuple[Explained, ...]
    """One decision for a text; one a word where words have tags."""
    known: bool | None
    """Whether the text is of any of the classes at all; None if the model cannot tell."""
    tokens: int
    truncated: bool
    unread: int
    """Words that the model does not read, since the text is too long for it."""
    together: int = 1
    """So many words were left out at a time, and are one here."""

    def as_json(self) -> dict[str, Any]:
        """All of it; docs/guide/hands_on/explanations.md describes the shape."""
        plain = ("text", "pair", "method", "output", "unit", "known", "tokens", "truncated", "unread", "together")
        return {
            **{name: getattr(self, name) for name in plain},
            "words": [word.as_json() for word in self.words],
            "explained": [each.as_json() for each in self.explained],
        }


def explanation_of(
    reading: Reading,
    task: Task,
    predictions: Predictions,
    explained: Sequence[Explained],
    *,
    method: str,
    unread: int,
    together: int = 1,
) -> Explanation:
    """An explanation of the first of some predictions."""
    known = task.known(predictions)
    return Explanation(
        text=reading.text,
        pair=reading.pair,
        method=method,
        output=task.name,
        unit=task.unit,
        words=reading.words,
        explained=tuple(explained),
        known=None if known is None else bool(known[0]),
        tokens=reading.encoding.read,
        truncated=reading.encoding.dropped > 0,
        unread=unread,
        together=together,
    )


def by_word(reading: Reading, read: Sequence[int], values: Sequence[float]) -> tuple[float | None, ...]:
    """One value for each word that was `read` → one for each word."""
    found = dict(zip(read, values, strict=True))
    return tuple(found.get(i) for i in range(len(reading.words)))


def shortened(values: Sequence[float | None]) -> list[float | None]:
    """Numbers with as many digits as they deserve."""
    return [None if value is None else rounded(value) for value in values]
