"""One method on given rows: how good, how fast, how large. What fails is told in its place, and the others go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bothways.errors import redacted
from bothways.evaluation.page import Words
from bothways.evaluation.significance import (
    Interval,
    confusion,
    macro_f1,
    macro_f1_interval,
)
from bothways.tasks.statistics import wilson_interval
from bothways.tokenizer import Text

WARM_UP = 8
"""Texts that are classified before the clock runs: what is made at first use is no part of the speed."""


NOTHING = Words("", "")


class Rows(NamedTuple):
    """Texts (or pairs of them) and their labels."""

    texts: Sequence[Text]
    labels: Sequence[Any]

    def take(self, indices: Sequence[int]) -> Rows:
        """Some of them, in the order of the table."""
        chosen = sorted(indices)
        return Rows([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])


@dataclass(frozen=True)
class Contender:
    """A method that takes part."""

    name: str
    title: Words
    make: Callable[[int], Any]
    """seed → an estimator with `fit` and `predict`, not yet trained."""
    about: Words = NOTHING
    """What it is, in a line."""
    extra: str = ""
    """The extra of this package without which it does not run."""
    unasked: bool = True
    """Whether it takes part where no methods are named."""

    def sentence_of(self, error: Exception) -> str:
        """An error in one line; one that names no mistake of the user says what it is."""
        text = " ".join(redacted(str(error)).split()) or "no message"
        if isinstance(error, ImportError) and self.extra:
            return f"{text}; install it with pip install 'bothways[{self.extra}]'."
        return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


@dataclass(kw_only=True)
class Measured:
    """What is known of a method; None where it was not measured."""

    method: str
    title: Words
    about: Words = NOTHING
    accuracy: float | None = None
    macro_f1: float | None = None
    fit_seconds: float | None = None
    texts_per_second: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    accuracy_interval: Interval | None = None
    macro_f1_interval: Interval | None = None
    seeds: list[float] = field(default_factory=list)
    """Accuracy of each run; accuracy and macro F1 are their means."""
    dev_accuracy: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(training rows, accuracy)"""
    error: str | None = None
    """Why there is no more."""
    saved_as: type | None = None
    """The class whose `load` reads what was saved; None: nothing that can be read was."""
    right: np.ndarray | None = None
    """(test rows,) in what share of the runs each was answered rightly."""

    @property
    def done(self) -> bool:
        """Whether it has answered the test rows."""
        return self.right is not None

    @property
    def ranked_by(self) -> float:
        """By what methods are ranked: accuracy on the dev rows where there are any, since the best on the test rows is
        a little lucky there."""
        chosen = self.accuracy if self.dev_accuracy is None else self.dev_accuracy
        assert chosen is not None
        return chosen


class Clock:
    """Says what is done now, and how long it took to get here."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def tell(self, sentence: str) -> None:
        """A line on standard error."""
        print(f"[{time.perf_counter() - self.started:4.0f} s] {sentence}", file=sys.stderr, flush=True)


def measure(
    contender: Contender,
    train: Rows,
    test: Rows,
    clock: Clock,
    *,
    dev: Rows | None = None,
    seeds: Sequence[int] = (0,),
    parts: Sequence[Sequence[int]] = (),
    fitted: Callable[[Any], dict[str, Any]] = lambda estimator: {},
) -> Measured:
    """Train a method on `train` with each seed and see how often it is right on `test`.

    A method whose second seed answers exactly as the first does not depend on it and is not run again. `parts`: rows
    of `train` for a learning curve; `fitted`: what to do with the trained estimator of the first seed, which tells its
    "parameters", "bytes" and "saved_as". An error is told in the result.
    """
    found = Measured(method=contender.name, title=contender.title, about=contender.about)
    try:
        run_seeds(found, contender, train, test, clock, dev=dev, seeds=seeds, fitted=fitted)
    except Exception as error:  # whatever ails one method, the others go on
        found.error = contender.sentence_of(error)
        clock.tell(f"{contender.title.en} failed: {found.error}")
        return found
    assert found.accuracy is not None
    for part in parts:
        clock.tell(f"{contender.title.en}, {len(part):,} rows.")
        try:
            rows = train.take(part)
            predicted = contender.make(seeds[0]).fit(*rows).predict(test.texts)
            found.curve.append((len(part), float(right_of(test, predicted).mean())))
        except Exception as error:
            clock.tell(f"{contender.title.en} failed on {len(part):,} rows: {contender.sentence_of(error)}")
    if found.curve:
        found.curve.append((len(train.texts), found.accuracy))
    return found


def run_seeds(
    found: Measured,
    contender: Contender,
    train: Rows,
    test: Rows,
    clock: Clock,
    *,
    dev: Rows | None,
    seeds: Sequence[int],
    fitted: Callable[[Any], dict[str, Any]],
) -> None:
    """Fill `found` with the means over the seeds."""
    fits: list[float] = []
    f1s: list[float] = []
    shares: list[np.ndarray] = []
    dev_shares: list[float] = []
    first: np.ndarray | None = None
    for seed in seeds:
        several = f", seed {seed}" if len(seeds) > 1 else ""
        clock.tell(f"{contender.title.en}: training on {len(train.texts):,} rows{several}.")
        estimator = contender.make(seed)
        begun = time.perf_counter()
        estimator.fit(*train)
        fits.append(time.perf_counter() - begun)
        estimator.predict(test.texts[:WARM_UP])
        begun = time.perf_counter()
        predicted = np.asarray(estimator.predict(test.texts))
        took = time.perf_counter() - begun
        if dev is not None:
            dev_shares.append(float(right_of(dev, estimator.predict(dev.texts)).mean()))
        if first is None:
            found.texts_per_second = len(test.texts) / took
            found.macro_f1_interval = macro_f1_interval(test.labels, predicted)
            for name, value in fitted(estimator).items():
                setattr(found, name, value)
        elif np.array_equal(first, predicted) and len(shares) == 1:
            break  # this method throws no dice
        first = predicted if first is None else first
        expected, found_classes, counts = confusion(test.labels, predicted)
        f1s.append(float(macro_f1(expected, found_classes, counts[None])[0]))
        shares.append(right_of(test, predicted))
    found.right = np.mean(shares, 0)
    found.seeds = [float(share.mean()) for share in shares]
    found.accuracy, found.macro_f1 = float(found.right.mean()), float(np.mean(f1s))
    found.accuracy_interval = wilson_interval(found.right.sum(), len(found.right))
    found.fit_seconds = float(np.mean(fits))
    found.dev_accuracy = float(np.mean(dev_shares)) if dev_shares else None


def right_of(rows: Rows, predicted: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(rows,) float64: 1 where the label was predicted."""
    return (np.asarray(predicted) == np.asarray(rows.labels)).astype(float)
