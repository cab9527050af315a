"""What was found in a table, as a person and a program read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from bothways.errors import InputError, redacted

MOST_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found in one table."""

    check: str
    """What was looked for: duplicates, conflicts, leakage, empty_texts, …"""
    table: str
    """The table, as the caller calls it."""
    count: int
    """How many rows it is true of (columns for unused_columns, labels for unseen_labels)."""
    share: float
    """The same as a share of all that were looked at."""
    sentence: str
    """What was found and what to do about it."""
    examples: tuple[str, ...] = ()
    """Where it can be seen: a few rows as they stand in the file."""
    fatal: bool = False
    """Whether a model of this table would mean nothing."""

    def __post_init__(self) -> None:
        for name in ("table", "sentence"):  # which may be addresses, and are shown and written
            object.__setattr__(self, name, redacted(getattr(self, name)))


def finding(
    check: str, table: str, rows: Sequence[str], total: int, sentence: str, *, count: int | None = None, **more: bool
) -> Finding:
    """A finding that is true of `rows` (or of `count` rows, some of which are named) of `total`."""
    count = len(rows) if count is None else count
    share = round(count / max(1, total), 6)
    examples = tuple(rows[:MOST_EXAMPLES])
    return Finding(check=check, table=table, count=count, share=share, sentence=sentence, examples=examples, **more)


def refuse_meaningless(findings: Iterable[Finding]) -> None:
    """Raise InputError, with its sentence, for a finding that is fatal."""
    for found in findings:
        if found.fatal:
            raise InputError(found.sentence)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as they go into metrics.json."""
    return [asdict(found) | {"examples": list(found.examples)} for found in findings]


def show(findings: Sequence[Finding], stream: IO[str]) -> None:
    """Findings as a table where a person looks, a line each in a log."""
    if not stream.isatty():
        for found in findings:
            print(found.sentence + places(found), file=stream)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "count", "share", "what was found")
    for found in findings:
        share = f"{found.share:.1%}"
        table.add_row(found.check.replace("_", " "), f"{found.count:,}", share, escape(found.sentence + places(found)))
    Console(file=stream).print(table)


def places(found: Finding) -> str:
    """` (line 3, line 7, …)`"""
    more = ", …" if found.count > len(found.examples) else ""
    return f" ({', '.join(found.examples)}{more})" if found.examples else ""
