"""What a person should know of their tables before training: one `Finding` for each thing that was found.

A finding that is `fatal` says that a model of this table would mean nothing, whatever its figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bothways.evaluation.findings import Finding, finding
from bothways.tables.duplicates import folded, groups, keys
from bothways.tables.table import LabelColumn, Table
from bothways.tasks import TASKS
from bothways.tasks.cells import SEPARATOR, WRITTEN_LIST
from bothways.tasks.task import alike, shown

RARE = 5
"""A label with fewer rows is learned by chance, if at all."""
DOMINANT, TIMES_EQUAL = 0.9, 10
"""A label is too common with this share of the rows, or with so many times what it would have were all equal."""
LEAST_ROWS_OF_IDS, SHARE_OF_IDS = 50, 0.9
"""From so many rows on, labels of which this many are different are no classes."""
TIMES_AS_LONG = 3
"""So much longer texts in another column are perhaps the texts that were meant."""


def check_tables(tables: Mapping[str, Table]) -> list[Finding]:
    """Everything that can be told without a tokenizer. `tables`: by what messages call them, the training table first;
    the others are those to evaluate on."""
    known = {name: keys(table) for name, table in tables.items()}
    (first, training), *others = tables.items()
    found = [*constant_text(first, training, known[first]), *about_labels(first, training)]
    found += about_columns(first, training)
    for name, table in tables.items():
        found += about_texts(name, table)
        found += about_duplicates(name, table, known[name])
    for name, table in others:
        found += leakage(name, table, np.isin(known[name], known[first]), first)
        found += unseen_labels(name, table, training)
    return found


# ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def about_texts(name: str, table: Table) -> Iterator[Finding]:
    """Empty texts, and lists that were written as text."""
    column = table.columns.text
    plain = [text if isinstance(text, str) else " ".join(text) for text in table.texts]
    if empty := [where for where, text in zip(table.rows, plain, strict=True) if not text.strip()]:
        sentence = f"{name}: {counted(empty, table)} have an empty text in column {column!r}; fill or remove them."
        yield finding("empty_texts", name, empty, len(table), sentence)
    if lists := [r for r, text in zip(table.rows, plain, strict=True) if text[:1] in "[({" and is_list(text)]:
        sentence = f"{name}: {counted(lists, table)} hold a list written as text in column {column!r}; join its parts."
        yield finding("written_lists", name, lists, len(table), sentence)


def is_list(text: str) -> bool:
    return len(text) < 100_000 and WRITTEN_LIST.fullmatch(text) is not None


def about_duplicates(name: str, table: Table, known: np.ndarray) -> Iterator[Finding]:
    """Texts that stand more than once, and those of them whose labels contradict each other."""
    repeated: list[str] = []
    exact = 0
    contradicting: dict[str, list[str]] = {label.output: [] for label in table.columns.labels}
    for rows in groups(known):
        repeated += [table.rows[i] for i in rows[1:]]
        exact += len(rows) - len({repr(table.texts[i]) for i in rows})
        for label in table.columns.labels:
            if contradict(label, [table.values[label.output][i] for i in rows]):
                contradicting[label.output] += [table.rows[i] for i in rows]
    if repeated:
        how = "" if exact == len(repeated) else f", {exact:,} of them letter for letter, the others but for capitals, "
        how += how and "spaces or the form of characters"
        sentence = (
            f"{name}: {counted(repeated, table)} repeat a text that was there before{how}; it counts as often as it "
            f"stands there, in training and in every figure."
        )
        yield finding("duplicates", name, repeated, len(table), sentence)
    for output, rows_of in contradicting.items():
        if rows_of:
            sentence = (
                f"{name}: {counted(rows_of, table)} share their text with a row of another label of output {output!r}; "
                f"one of the two is wrong, or the text alone does not tell."
            )
            yield finding("conflicts", name, rows_of, len(table), sentence)


def constant_text(name: str, table: Table, known: np.ndarray) -> Iterator[Finding]:
    """A text that all rows have; where words are labelled it may be."""
    if len(table) > 1 and not table.columns.pretokenized and (known == known[0]).all():
        labels = ", ".join(repr(label.column) for label in table.columns.labels) or "any label"
        sentence = (
            f"{name}: all {len(table):,} rows have the same text in column {table.columns.text!r}, so that nothing "
            f"tells the values of {labels} apart; name the column of the texts (--text)."
        )
        yield finding("constant_text", name, table.rows, len(table), sentence, fatal=True)


def contradict(label: LabelColumn, values: Sequence[Any]) -> bool:
    """Whether rows of the same text do not all say the same."""
    said = [value for value in values if value is not None]
    return any(not TASKS[label.kind].same(said[0], value) for value in said[1:])


def leakage(name: str, table: Table, seen: np.ndarray, training: str) -> Iterator[Finding]:
    """Texts to evaluate on that are trained on, too. `seen` (rows,) bool"""
    if rows := [table.rows[i] for i in np.flatnonzero(seen)]:
        sentence = f"{name}: {counted(rows, table)} have a text of {training}; figures measured on them are too good."
        yield finding("leakage", name, rows, len(table), sentence)


# ── Labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def about_labels(name: str, table: Table) -> Iterator[Finding]:
    """What is odd about the labels to train on, output by output."""
    for label in table.columns.labels:
        task, values = TASKS[label.kind], table.values[label.output]
        if not task.names_labels:
            continue
        yield from unlabelled(name, table, label)
        counts = Counter(each for value in values if value is not None for each in set(task.labels_in(value)))
        labelled = sum(value is not None for value in values)
        if labelled >= LEAST_ROWS_OF_IDS and len(counts) >= SHARE_OF_IDS * labelled and not task.pretokenized:
            yield ids(name, table, label, counts, labelled)
            continue
        yield from rare_labels(name, table, label, counts)
        if label.kind == "multi":
            yield from commas(name, table, label, counts)
        if not task.pretokenized:  # of tags it is in the nature of O to be everywhere
            yield from imbalance(name, label, counts, labelled)
        for group in alike(counts):
            rows = rows_with(table, label, set(group))
            sentence = (
                f"{name}: output {label.output!r} has the labels {' and '.join(map(repr, group))}, which look alike; "
                f"write them the same way if they are the same."
            )
            yield finding("similar_labels", name, rows, len(table), sentence)
        header = {each for each in counts if folded(each) == folded(label.column) and len(counts) > 2}
        if header and (rows := rows_with(table, label, header)):
            sentence = (
                f"{name}: {counted(rows, table)} have the label {min(header)!r}, which is the name of the column "
                f"{label.column!r}; is it a header among the rows?"
            )
            yield finding("header_as_label", name, rows, len(table), sentence)


def unlabelled(name: str, table: Table, label: LabelColumn) -> Iterator[Finding]:
    """Rows without the only label that they could have."""
    nothing = [row for row, value in zip(table.rows, table.values[label.output], strict=True) if value is None]
    if nothing and len(table.columns.labels) == 1:
        sentence = (
            f"{name}: {counted(nothing, table)} have no label in column {label.column!r}; to train on the others, take "
            f"these out."
        )
        yield finding("unlabelled", name, nothing, len(table), sentence)


def commas(name: str, table: Table, label: LabelColumn, counts: Counter[str]) -> Iterator[Finding]:
    """Labels that are perhaps several with commas between them."""
    parts = Counter(part.strip() for each in counts for part in each.split(","))
    rows = rows_with(table, label, {each for each in counts if "," in each})
    if rows and len(parts) < len(counts):
        found = shown([each for each in counts if "," in each])
        sentence = (
            f"{name}: {counted(rows, table)} have a label with a comma in column {label.column!r}: {found}; write "
            f"{SEPARATOR!r} between labels if these are several."
        )
        yield finding("commas", name, rows, len(table), sentence)


def ids(name: str, table: Table, label: LabelColumn, counts: Counter[str], labelled: int) -> Finding:
    """Labels that are no classes, since nearly every row has one of its own."""
    columns = [column for column, cells in table.unused.items() if could_be_labels(cells)]
    advice = f"the classes may be in column {columns[0]!r} (--label)" if columns else "name the column of the classes"
    if all(re.fullmatch(r"[+-]?\d+(\.\d*)?", each) for each in counts):
        advice += ", or declare a number as one (--output NAME=COLUMN:regression)"
    sentence = (
        f"{name}: column {label.column!r} has {len(counts):,} different labels in {labelled:,} rows, so that nearly "
        f"every row is a class of its own and nothing can be learned from the others; {advice}."
    )
    return finding("labels_are_ids", name, table.rows, len(table), sentence, count=labelled, fatal=True)


def rare_labels(name: str, table: Table, label: LabelColumn, counts: Counter[str]) -> Iterator[Finding]:
    """Labels with too few rows to learn them from."""
    rare = sorted((each for each, count in counts.items() if count < RARE), key=lambda each: (counts[each], each))
    if rare:
        rows = rows_with(table, label, set(rare))
        sentence = (
            f"{name}: {len(rare):,} of {len(counts):,} labels of output {label.output!r} have fewer than {RARE} rows: "
            f"{shown(rare)}; add rows of them or join them with others."
        )
        yield finding("rare_labels", name, rows, len(table), sentence)


def imbalance(name: str, label: LabelColumn, counts: Counter[str], labelled: int) -> Iterator[Finding]:
    """A label that nearly all rows have."""
    if len(counts) < 2:
        return
    each, count = counts.most_common(1)[0]
    share = count / labelled
    if share >= DOMINANT or share >= TIMES_EQUAL / len(counts):
        sentence = (
            f"{name}: {share:.1%} of the rows have the label {each!r} of output {label.output!r}, so that saying it "
            f"always is right as often; look at macro F1 rather than accuracy."
        )
        yield finding("imbalance", name, (), labelled, sentence, count=count)


def unseen_labels(name: str, table: Table, training: Table) -> Iterator[Finding]:
    """Labels that are trained on and that no row to evaluate on has."""
    for label in training.columns.labels:
        task = TASKS[label.kind]
        if not task.names_labels or not len(table) or label.output not in table.values:
            continue
        trained, evaluated = (
            {each for value in t.values[label.output] if value is not None for each in task.labels_in(value)}
            for t in (training, table)
        )
        if unseen := sorted(trained - evaluated):
            sentence = (
                f"{name}: {len(unseen):,} of {len(trained):,} labels of output {label.output!r} are in none of the "
                f"{len(table):,} rows to evaluate on, so no figure speaks of them: {shown(unseen)}."
            )
            yield finding("unseen_labels", name, (), len(trained), sentence, count=len(unseen))


def rows_with(table: Table, label: LabelColumn, wanted: set[str]) -> list[str]:
    """The rows that have one of these labels."""
    task = TASKS[label.kind]
    values = zip(table.rows, table.values[label.output], strict=True)
    return [row for row, value in values if value is not None and not wanted.isdisjoint(task.labels_in(value))]


# ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def about_columns(name: str, table: Table) -> Iterator[Finding]:
    """Columns that mean nothing here, and whether one of them holds longer texts than the texts."""
    if not table.unused:
        return
    texts = table.texts[: max(map(len, table.unused.values()))]
    usual = sum(map(len, map(folded, texts))) / max(1, len(texts))
    longer = {column: length for column, cells in table.unused.items() if (length := mean_length(cells)) > usual}
    sentence = f"{name}: not used: {shown(list(table.unused))}."
    if longer and max(longer.values()) > TIMES_AS_LONG * max(1.0, usual):
        column = max(longer, key=lambda each: longer[each])
        sentence += (
            f" {column!r} has {longer[column]:.0f} characters a row, the text column {table.columns.text!r} "
            f"{usual:.0f}; name it with --text if it is the text."
        )
    share = len(table.unused) / (len(table.unused) + 1 + len(table.columns.labels))
    yield Finding(check="unused_columns", table=name, count=len(table.unused), share=round(share, 6), sentence=sentence)


def mean_length(cells: Sequence[Any]) -> float:
    """Characters a cell, 0 for cells that are no text."""
    return sum(len(cell) for cell in cells if isinstance(cell, str)) / max(1, len(cells))


def could_be_labels(cells: Sequence[Any]) -> bool:
    """Whether the cells of a column repeat themselves as classes do."""
    different = len({str(cell) for cell in cells})
    return 2 <= different <= len(cells) / 5


def counted(rows: Sequence[str], table: Table) -> str:
    """`12 of 900 rows (1.3 %)`"""
    return f"{len(rows):,} of {len(table):,} rows ({len(rows) / max(1, len(table)):.1%})"
