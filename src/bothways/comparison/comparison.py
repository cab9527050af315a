"""What a comparison found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.comparison.advice import difference, ranked
from bothways.comparison.measure import Measured
from bothways.evaluation.page import Words

CONTRACT = ("method", "accuracy", "macro_f1", "fit_seconds", "texts_per_second", "parameters", "bytes")
"""What compare.json says of every method first."""


@dataclass(frozen=True)
class Comparison:
    """The results of all methods on the same rows, and what they advise."""

    results: list[Measured]
    """In the order asked for."""
    advice: Words
    train_rows: int
    test_rows: int
    source: str
    """The training table."""
    stopped: bool = False
    """Whether it was interrupted (Ctrl-C) before all were done."""
    use: tuple[Words, str] | None = None
    """Lines that get answers of the method that is advised, and what they do."""
    checks: Sequence[Mapping[str, Any]] = ()
    """What is to be known of the tables, as `evaluation.findings.as_json` has it."""

    def as_json(self) -> list[dict[str, Any]]:
        """The content of compare.json: every method, with null where it was not measured."""
        order = ranked(self.results)
        entries = []
        for one in self.results:
            entry: dict[str, Any] = {name: tidy(getattr(one, name)) for name in CONTRACT}
            entry |= {
                "title": one.title.en,
                "train_examples": self.train_rows,
                "test_examples": self.test_rows,
                "accuracy_interval": tidy(one.accuracy_interval),
                "macro_f1_interval": tidy(one.macro_f1_interval),
                "seeds": tidy(one.seeds),
                "dev_accuracy": tidy(one.dev_accuracy),
                "curve": tidy(one.curve),
                "error": one.error,
            }
            if one.done:
                mean, span = difference(one, order[0])
                entry |= {"below_best": tidy(mean), "below_best_interval": tidy(span)}
            entries.append(entry)
        return entries


def tidy(value: Any) -> Any:
    """Numbers in as many digits as they deserve."""
    if isinstance(value, (list, tuple)):
        return [tidy(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
