"""The recipe: a labelled table and the names of methods → each on the same rows, a table, a page and an advice."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bothways.comparison.advice import advise, advised
from bothways.comparison.comparison import Comparison
from bothways.comparison.measure import Clock, Contender, Measured, Rows, measure
from bothways.comparison.page import comparison_page
from bothways.comparison.saving import Saver, how_to_use
from bothways.errors import InputError
from bothways.evaluation.data_checks import check_tables
from bothways.evaluation.findings import Finding, as_json, refuse_meaningless, show
from bothways.files.names import public_name
from bothways.files.writing import new_directory, refuse_existing
from bothways.tables.table import Columns, Table, learn_outputs, read_table
from bothways.tasks import tasks_of

CURVE = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
"""Training rows of a learning curve; the last point are all of them."""
STOPPED = "not run: it was stopped"


def compare(
    contenders: Sequence[Contender],
    train_file: str | os.PathLike,
    test_file: str | os.PathLike,
    out: str | os.PathLike,
    *,
    dev_file: str | os.PathLike | None = None,
    columns: Columns | None = None,
    seeds: int = 1,
    curve: bool = False,
    rows: int | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Train every method on the same rows and write what was found to the directory `out`: compare.json, report.html
    and each trained method in a directory of its name.

    `dev_file`: rows by which methods are ranked, so that the figures of the test rows are of a method not chosen by
    them. `seeds`: runs of each method that depends on chance. `curve`: also on 100, 300, 1,000, … rows. `rows`: train
    on so many, drawn at random. Raises InputError before the training starts for what the user has to correct; a
    method that fails is told in its row. Ctrl-C keeps what is done.
    """
    require(seeds, rows, contenders)
    refuse_existing(out, overwrite, reads=(train_file, test_file, dev_file))
    table, test, dev, findings = tables(train_file, test_file, dev_file, columns or Columns())
    show(findings, sys.stderr)
    order = np.random.default_rng(0).permutation(len(table)).tolist()
    chosen = order[: rows or len(order)]
    train = rows_of(table).take(chosen)
    parts = [chosen[:size] for size in CURVE if curve and size < len(chosen)]
    places = {row: index for index, row in enumerate(sorted(chosen))}
    clock, results, stopped = Clock(), [], False
    with new_directory(out, overwrite) as directory:
        for contender in contenders:
            try:
                results.append(
                    measure(
                        contender,
                        train,
                        rows_of(test),
                        clock,
                        dev=None if dev is None else rows_of(dev),
                        seeds=range(seeds),
                        parts=[[places[row] for row in part] for part in parts],
                        fitted=Saver(directory / contender.name, clock, table.columns),
                    )
                )
            except KeyboardInterrupt:
                if not any(one.done for one in results):
                    raise
                stopped = True
                break
        missing = contenders[len(results) :]
        results += [Measured(method=one.name, title=one.title, about=one.about, error=STOPPED) for one in missing]
        advice = advise(results, len(chosen))
        use = how_to_use(advised(results), Path(out), pairs=table.pairs is not None)
        checks = as_json(findings)
        found = Comparison(results, advice, len(chosen), len(test), public_name(train_file), stopped, use, checks)
        write_found(directory, found, test)
    return found


def write_found(directory: Path, found: Comparison, test: Table) -> None:
    """compare.json for programs, report.html for people."""
    content = json.dumps(found.as_json(), indent=2, ensure_ascii=False)
    (directory / "compare.json").write_text(content + "\n", "utf-8")
    (directory / "report.html").write_text(comparison_page(found, test.texts), "utf-8")


def require(seeds: int, rows: int | None, contenders: Sequence[Contender]) -> None:
    """Raise InputError for settings that make no sense."""
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}; give 1 or more.")
    if rows is not None and rows < 2:
        raise InputError(f"--rows is {rows}; give 2 or more.")
    if not contenders:
        raise InputError("--methods names none; name one at least.")


def tables(
    train_file: str | os.PathLike, test_file: str | os.PathLike, dev_file: str | os.PathLike | None, columns: Columns
) -> tuple[Table, Table, Table | None, list[Finding]]:
    """The tables, checked: labels that training does not have are a mistake, and what else is to be known of them."""
    table = read_table(train_file, columns, find_pair=True)
    (task,) = tasks_of(learn_outputs(table))
    test = read_table(test_file, table.columns)
    dev = None if dev_file is None else read_table(dev_file, table.columns)
    named = {public_name(train_file): table, f"{public_name(test_file)} (test)": test}
    if dev is not None and dev_file is not None:
        named[f"{public_name(dev_file)} (dev)"] = dev
    findings = check_tables(named)
    refuse_meaningless(findings)
    for other in filter(None, (test, dev)):
        other.targets(task)
    return table, test, dev, findings


def rows_of(table: Table) -> Rows:
    """The texts and labels of a table with one single-label output."""
    (labels,) = table.values.values()
    texts = table.texts if table.pairs is None else list(zip(table.texts, table.pairs, strict=True))
    return Rows(texts, labels)  # type: ignore[arg-type]


def named(names: str | None, contenders: Mapping[str, Contender]) -> list[Contender]:
    """Those that `--methods a,b,c` names, in that order; where it is not given, all that can run without being asked.

    Raises InputError for a name that is not known or named twice.
    """
    unasked = [name for name, contender in contenders.items() if contender.unasked]
    wanted = unasked if names is None else [name for name in re.split(r"[\s,，、]+", names) if name]
    for index, name in enumerate(wanted):
        if name not in contenders:
            raise InputError(f"--methods: {name!r} is not known; choose from {', '.join(contenders)}.")
        if name in wanted[:index]:
            raise InputError(f"--methods names {name} twice; name it once.")
    return [contenders[name] for name in wanted]
