"""Rows of a table held out for evaluation: at random, and never a text that is trained on as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bothways.errors import InputError
from bothways.tables.duplicates import groups, keys
from bothways.tables.table import Table
from bothways.tasks import TASKS

MOST_HELD_OUT = 2000
"""Rows of a table that are held out, at most."""


def split_off(table: Table, share: float, seed: int) -> tuple[Table, Table]:
    """A table split in two at random: (what remains, `share` of the rows but `MOST_HELD_OUT` at most), the same for the
    same seed.

    Rows of the same text (or pair; `tables.duplicates`) stay together, since a model that has seen the one knows the
    other; unless so few texts make up the table that not half as many rows could be split off. Every label of every
    output keeps a row in what remains, so fewer rows may be split off, or none. Raises InputError if `share` leaves no
    row.
    """
    count = min(MOST_HELD_OUT, round(len(table) * share))
    if count >= len(table):
        raise InputError(
            f"{table.source}: --held-out {share:g} of {len(table)} rows leaves none to train on; ask for less, add "
            f"rows, or name a table to evaluate on with --dev."
        )
    if not count:
        return table, table.take([])
    groups_of_rows = [rows.tolist() for rows in groups(keys(table))]
    held_out = drawn(table, count, seed, groups_of_rows)
    if 2 * len(held_out) < count:  # the same few texts again and again
        held_out = drawn(table, count, seed, [])
    kept = np.ones(len(table), bool)
    kept[held_out] = False
    return table.take(np.flatnonzero(kept)), table.take(np.flatnonzero(~kept))


def drawn(table: Table, count: int, seed: int, together: Sequence[Sequence[int]]) -> list[int]:
    """`count` rows or fewer, at random, without the last row of any label; those `together` all or none."""
    # A text has the place of its first row in the order, so that it is drawn as likely as one that stands once.
    of_first = {rows[0]: rows for rows in together}
    repeated = {row for rows in together for row in rows[1:]}
    left = Counter(label for row in range(len(table)) for label in labels_of(table, row))
    held_out: list[int] = []
    for row in map(int, np.random.default_rng(seed).permutation(len(table))):
        if len(held_out) == count:
            break
        rows = of_first.get(row, [row])
        if row in repeated or len(held_out) + len(rows) > count:
            continue
        labels = Counter(label for each in rows for label in labels_of(table, each))
        if all(left[label] > number for label, number in labels.items()):
            left.subtract(labels)
            held_out += rows
    return held_out


def labels_of(table: Table, row: int) -> set[tuple[str, str]]:
    """(output, label) for each label that a row names."""
    return {
        (label.output, name)
        for label in table.columns.labels
        if (value := table.values[label.output][row]) is not None
        for name in TASKS[label.kind].labels_in(value)
    }
