"""The terminal: what a person is shown, what a mistake looks like, and how a program that is stopped ends."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import InputError, redacted

if TYPE_CHECKING:
    from bothways.inference.classify import Outcome


def say(sentence: str) -> None:
    """A word to the person, beside the results; no password or signature of an address is shown."""
    print(redacted(sentence), file=sys.stderr)


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """A mistake of the user in the block ends the program with its sentence and exit status 2."""
    try:
        yield
    except InputError as error:
        say(f"bothways: {error}")
        sys.exit(2)


def require_standard_output() -> None:
    """Refuse to work for a result that cannot be shown."""
    if sys.stdout is None:
        raise InputError("standard output is closed; open it, or send it to a file.")


def show_metrics(metrics: dict[str, Any]) -> None:
    """The metrics of each output as a table on standard output, those of single classes left out; of several tables
    each by itself, of several seeds the means, too."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    seeds = metrics.get("seeds", {}).get("outputs", {})
    for name, part in metrics.get("tables", {"": metrics}).items():
        header = ("output", "metric", "value", "95 % interval", *["mean of seeds"] * bool(seeds))
        table = Table(*header, title=escape(name) or None)
        for output, measured in part["outputs"].items():
            intervals = measured.get("intervals", {})
            for metric, value in measured.items():
                if isinstance(value, (dict, list)):
                    continue
                shown = f"{value:.4f}" if isinstance(value, float) else str(value)
                low_high = " – ".join(f"{edge:.4f}" for edge in intervals.get(metric, ()))
                over = seeds.get(output, {}).get(metric)
                mean = [f"{over['mean']:.4f} ± {over['deviation']:.4f}" if over else ""] if seeds else []
                table.add_row(escape(output), metric.replace("_", " "), shown, low_high, *mean)
        Console().print(table)
    if metrics.get("truncated"):
        say(f"{metrics['truncated']:,} of {metrics['examples']:,} texts were too long and were truncated.")


def show_outcome(outcome: Outcome, out: str | None, *, longest: int | None = None, refused: Sequence[str] = ()) -> None:
    """What became of the rows that were to be classified. `longest`: tokens that the model reads. `refused`: why files
    have no answers."""
    for error in (*refused, *outcome.errors):
        say(error)
    if more := outcome.failed - len(outcome.errors):
        say(f"and {more:,} more.")
    if outcome.failed:
        say(f"{outcome.failed:,} of {outcome.rows:,} rows could not be classified; each is written with its error.")
    if outcome.truncated:
        say(
            f"{outcome.truncated:,} of {outcome.rows - outcome.failed:,} texts were longer than "
            f"{'the model reads' if longest is None else f'{longest} tokens'} and were truncated."
        )
    if out is not None:
        earlier = f", {outcome.earlier:,} of them before" if outcome.earlier else ""
        say(f"{out}: {outcome.rows:,} rows{earlier}; {outcome.rows_per_second:,.0f} a second.")


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """The first rows of a table on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bothways.labelling.suggestions import screenful

    if rows:
        table = Table(*(name.replace("_", " ") for name in rows[0]))
        for cells in screenful(rows):
            table.add_row(*map(escape, cells))
        Console().print(table)


@contextmanager
def usable_streams() -> Iterator[None]:
    """What a standard stream cannot show is replaced; a word for a closed standard error goes nowhere, since Python
    would print it among the results."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stderr is not None:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as sys.stderr:
        yield


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP, unless ignored, end the program as an error does, so that nothing
    half-written stays."""
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # not every system's
    signals = [sign for sign in known if signal.getsignal(sign) == signal.SIG_DFL]
    owner = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a process that was forked to help ends at once
            os._exit(128 + number)
        for sign in signals:  # once is enough
            signal.signal(sign, signal.SIG_IGN)
        say("bothways: stopped.")
        sys.exit(128 + number)

    for sign in signals:
        signal.signal(sign, stop)
    try:
        yield
    finally:
        for sign in signals:
            signal.signal(sign, signal.SIG_DFL)
