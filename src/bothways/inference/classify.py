"""Classifying any number of texts in constant memory: rows are read, answered and written a window at a time.

input ─ given ─▶ windows ─ engine ─▶ predictions ─ answers ─▶ records ─ tables.writing ─▶ parts ─ files.resuming ─▶ OUT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.files.reading import STANDARD_INPUT, Meter
from bothways.files.resuming import can_resume, resumable_output
from bothways.inference.answers import Cells, Form, Objects, answers
from bothways.inference.engine import Engine
from bothways.inference.given import GivenRows, Window, given_rows, is_interactive
from bothways.progress import Progress
from bothways.tables.table import Columns
from bothways.tables.writing import Format, format_named
from bothways.tokenizer import Encoding
from bothways.training.prefetching import prefetched

WINDOW_ROWS = 2048
"""Rows in memory at a time, which are also what is repeated after a kill."""
ALL = "all"
"""In the place of columns to keep."""
REPORTED = 10
"""So many rows that could not be classified are told one by one."""


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """What is said of each row."""

    reject: str | None = None
    """The label of texts that are of none of the classes; None: the likeliest."""
    top: int | None = None
    """Scores of so many labels, the likeliest first; None: of all labels in JSON, of the likeliest in a table."""
    keep: tuple[str, ...] = ()
    """Columns of the input to carry over; `all` for every one."""

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise InputError(f"--top is {self.top}; give 1 or more.")


@dataclass(kw_only=True)
class Outcome:
    """What became of the rows, those of the run that was gone on with included."""

    rows: int = 0
    digest: int = 0
    """Of the rows as they were read, to know them again."""
    failed: int = 0
    """Rows that could not be classified."""
    truncated: int = 0
    """Texts longer than the model reads."""
    seconds: float = 0.0
    """Of this run."""
    earlier: int = 0
    """Rows that an earlier run had classified."""
    errors: list[str] = field(default_factory=list)
    """The first errors of this run."""

    @property
    def rows_per_second(self) -> float:
        """Of this run."""
        return (self.rows - self.earlier) / max(self.seconds, 1e-9)

    @property
    def noted(self) -> dict[str, int]:
        """What a later run must know to go on."""
        return {"rows": self.rows, "digest": self.digest, "failed": self.failed, "truncated": self.truncated}

    def add(self, window: Window, predictions: Predictions, seconds: float) -> None:
        """Count one more window, `seconds` after the beginning."""
        failed = [row.error for row in window.rows if row.error is not None]
        self.seconds, self.rows, self.digest = seconds, window.read, window.digest
        self.failed += len(failed)
        self.errors += failed[: REPORTED - len(self.errors)]
        self.truncated += sum(encoding.dropped > 0 for encoding in predictions.encodings)


def classify(
    engine: Engine,
    file: str,
    out: str | None = None,
    *,
    config: AnswerConfig = AnswerConfig(),
    model: str = "",
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Classify a table, or each line of standard input (`-`), and write a row for each, in order.

    `out`: its name tells the form (CSV, TSV, Parquet, else JSON lines); None: JSON lines on standard output. `model`:
    a fingerprint, by which `resume` knows that it goes on with the same. A row that cannot be classified is written as
    such. Raises InputError for an input that cannot be read, or whose first row is not what the model needs.
    """
    if resume and not can_resume(out):
        raise InputError("--resume goes on with a file on this machine; name one with --out.")
    names, meter = engine.config.text_columns, Meter([] if file == STANDARD_INPUT else [file])
    columns = Columns(text=names[0], text_pair=names[1] if len(names) > 1 else None)
    rows = given_rows(file, columns, pretokenized=engine.pretokenized, meter=meter)
    form, written_as = form_of(engine, rows, file, out, config)
    settings = {"model": model, "reject": config.reject, "top": config.top, "kept": list(config.keep)}
    at_once = file == STANDARD_INPUT and is_interactive()
    quiet = quiet or at_once or (out is None and sys.stdout is not None and sys.stdout.isatty())
    with resumable_output(out, written_as.finish, settings, resume=resume) as output:
        outcome = Outcome(**output.done)
        if outcome.rows:
            rows.skip(outcome.rows, outcome.digest)
        outcome.earlier, started = outcome.rows, time.monotonic()
        with shown(meter, outcome, quiet=quiet) as show:
            windows = rows.windows(1 if at_once else min(WINDOW_ROWS, engine.window))
            for window, predictions in predicted(engine, windows, at_once=at_once):
                said = answers(engine.tasks, window.texts, predictions, config.reject, config.top)
                records = [form.failed(row) if row.error else form.answered(row, next(said)) for row in window.rows]
                part = written_as.part(records, first=outcome.rows == 0)
                outcome.add(window, predictions, time.monotonic() - started)
                output.write(part, outcome.noted)
                show()
        if not outcome.rows:  # a table has its columns
            output.write(written_as.part([], first=True), outcome.noted)
    return outcome


def form_of(engine: Engine, rows: GivenRows, file: str, out: str | None, config: AnswerConfig) -> tuple[Form, Format]:
    """What is written of each row, and how."""
    texts, keep = engine.config.text_columns, config.keep
    if keep:
        there = list(texts) if file == STANDARD_INPUT else rows.columns()
        keep = tuple(name for name in there if name not in texts) if ALL in keep else keep
        if lacking := [name for name in keep if name not in there]:
            raise InputError(f"{file}: there is no column {lacking[0]!r} to keep, only {', '.join(map(repr, there))}.")
    if not format_named(out).has_columns:
        return Objects(keep), format_named(out)
    cells = Cells(engine.tasks, texts, keep, config.top)
    return cells, format_named(out, cells.columns)


def predicted(engine: Engine, windows: Iterable[Window], *, at_once: bool) -> Iterator[tuple[Window, Predictions]]:
    """What the model makes of each window. Where it leaves the processor to others, as on a GPU, the windows after it
    are read and tokenized meanwhile; where it takes all cores, that would gain nothing (docs/log.md)."""
    pairs = len(engine.config.text_columns) > 1
    encoded = ((window, engine.encode(window.texts, window.pairs if pairs else None)) for window in windows)

    def predict(step: tuple[Window, list[Encoding]]) -> tuple[Window, Predictions]:
        window, encodings = step
        return window, engine.run(encodings)

    if at_once or engine.backend.side_by_side > 1:
        return map(predict, encoded)
    return prefetched(predict, encoded, ahead=2)


@contextmanager
def shown(meter: Meter, outcome: Outcome, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A function that shows how far the work has come."""
    begun = meter.done if meter.total else outcome.rows
    unit = "bytes" if meter.total else "rows"
    with Progress("classifying", meter.total, unit=unit, begun=begun, quiet=quiet) as progress:

        def show() -> None:
            done = meter.done if meter.total else outcome.rows
            progress.update(done, rows=outcome.rows, rows_per_second=outcome.rows_per_second)

        yield show
