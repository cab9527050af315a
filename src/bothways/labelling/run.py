"""The recipe of `bothways check`: a table, and perhaps a model → what to know of it, what to correct, what to label."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bothways.errors import InputError
from bothways.evaluation.data_checks import check_tables
from bothways.evaluation.findings import Finding
from bothways.evaluation.token_checks import check_tokens
from bothways.files.names import without_secrets
from bothways.formats.hub import AUTO
from bothways.inference.engine import Engine, load_classifier
from bothways.labelling.active_learning import Strategy, diverse, uncertain_and_diverse
from bothways.labelling.features import Features, encoder_features, frozen, tfidf_features
from bothways.labelling.label_errors import label_errors, require_cleanlab
from bothways.labelling.out_of_fold import folds_of, out_of_fold, predicted
from bothways.labelling.suggestions import Suggestion
from bothways.tables.duplicates import keys
from bothways.tables.table import Columns, Table, columns_of, learn_outputs, read_table
from bothways.tasks import Task, tasks_of
from bothways.tasks.task import Value

Probabilities = dict[str, Sequence[np.ndarray]]
"""By output, what a model says of each row of a table."""


@dataclass(frozen=True)
class Checked:
    """What was found in a table."""

    table: Table
    findings: list[Finding]
    errors: list[Suggestion] | None = None
    """Labels that are probably wrong, if they were looked for."""
    agreement: float = 1.0
    """The share of labels that those who doubted would have given, too: where it is low, many doubts are mistaken."""
    to_label: list[Suggestion] = field(default_factory=list)
    """Rows without a label that are worth one, the most uncertain first."""


def check(
    file: str | os.PathLike,
    *,
    tests: Sequence[str | os.PathLike] = (),
    columns: Columns | None = None,
    encoder: str | os.PathLike = AUTO,
    model: str | os.PathLike | None = None,
    folds: int | None = None,
    to_label: int = 0,
) -> Checked:
    """Check a table, alone and beside those it is tested on (`tests`).

    `columns`: as for fine-tuning; labels may be missing. `encoder`: what is to read the texts, for their lengths.
    `model`: a trained classifier, whose columns count and whose probabilities tell labels that are probably wrong;
    `folds`: in its place linear models that have not seen the rows they speak of. `to_label`: name so many rows
    without a label that are worth one, in place of doubtful labels. Raises InputError for what the user has to correct.
    """
    if to_label < 0:
        raise InputError(f"--next {to_label} is no number of rows; ask for one or more.")
    if model is not None or folds is not None:
        require_cleanlab()
    if model is not None and folds is not None:
        raise InputError("--folds learns from the table what --model knows already; give one of them.")
    if to_label and folds is not None:
        raise InputError("--folds names labels in doubt, --next rows to label; ask for one after the other.")
    engine = None if model is None else Engine(*load_classifier(model))
    columns = columns or Columns()
    if engine is not None:
        columns = columns_of(engine.config.text_columns, [task.output for task in engine.tasks])
    table = read_table(file, replace(columns, labels_optional=True), find_pair=engine is None)
    name = os.fspath(file)
    tables = {name: table} | {f"{os.fspath(test)} (test)": read_table(test, table.columns) for test in tests}
    findings = check_tables(tables)
    reader = engine or frozen(encoder, table)
    findings += check_tokens(name, table, reader.tokenizer, reader.config.longest)
    errors, agreement = None, 1.0
    if engine is not None and not to_label:
        known = tuple(task for task in engine.tasks if task.name in table.values)
        if known:
            errors, agreement = doubted(table, known, probabilities_of(engine, table))
    elif folds is not None:
        errors, agreement = doubted(table, *cross_validated(table, folds))
    return Checked(table, findings, errors, agreement, next_to_label(table, reader, to_label) if to_label else [])


# ── Labels that are probably wrong ───────────────────────────────────────────────────────────────────────────────────


def doubted(table: Table, tasks: Sequence[Task], probabilities: Probabilities) -> tuple[list[Suggestion], float]:
    """`label_errors` of every output that has labels, and the share of labels that the model would have given, too."""
    tasks = [task for task in tasks if task.names_labels]
    counted = [
        task.agreement(target, said)
        for task in tasks
        for target, said in zip(table.targets(task), probabilities[task.name], strict=True)
        if task.labelled(target)
    ]
    same, asked = (sum(counts) for counts in zip((0, 0), *counted, strict=True))
    return label_errors(table, tasks, probabilities), same / asked if asked else 1.0


def probabilities_of(engine: Engine, table: Table) -> Probabilities:
    """What a trained model says of every row."""
    found: dict[str, list[np.ndarray]] = {task.name: [] for task in engine.tasks}
    for predictions in engine.predict(table.texts, table.pairs):
        for task in engine.tasks:
            found[task.name] += list(task.probabilities(predictions))
    return dict(found)


def cross_validated(table: Table, folds: int) -> tuple[Sequence[Task], Probabilities]:
    """What linear models of TF-IDF say of rows that they have not seen; the frozen encoder's features say less, and
    take longer (docs/log.md). The tasks are those of the table."""
    if not table.columns.labels:
        raise InputError(f"{table.source}: there is no column of labels to check; name it with --label or --output.")
    tasks = [task for task in tasks_of(learn_outputs(table)) if task.names_labels]
    features, known = tfidf_features(table), keys(table)
    found: Probabilities = {}
    for task in tasks:
        targets = table.targets(task)
        rows = np.array([i for i, target in enumerate(targets) if task.labelled(target)])
        names = [task.written(table.values[task.name][i]) for i in rows]
        probabilities = np.zeros((len(table), len(task.output.labels)), np.float32)
        fold = folds_of(known[rows], names, folds)
        probabilities[rows] = out_of_fold([features.take(rows)], task, [targets[i] for i in rows], fold)
        found[task.name] = list(probabilities)
    return tasks, found


# ── What to label next ───────────────────────────────────────────────────────────────────────────────────────────────


def next_to_label(
    table: Table, engine: Engine, count: int, *, strategy: Strategy = uncertain_and_diverse, seed: int = 0
) -> list[Suggestion]:
    """The `count` rows without a label from which a model would learn most.

    What is uncertain is told by the model in `engine` or, if that has no output layers, by linear models of its
    features, trained on the rows with a label; if there are none, the choice is only as different as can be.
    """
    said = [any(values[i] is not None for values in table.values.values()) for i in range(len(table))]
    rows, labelled = np.flatnonzero(~np.array(said)), np.flatnonzero(said)
    if not len(rows):
        raise InputError(f"{table.source}: every row has a label; --next is for rows that have none yet.")
    features = encoder_features(engine, table)
    if engine.tasks:
        tasks, probabilities = engine.tasks, probabilities_of(engine, table.take(rows))
    else:
        tasks, probabilities = learned(table, features, rows, labelled)
    uncertainty = np.zeros(len(rows))
    for task in tasks:
        uncertainty += [task.uncertainty(p) for p in probabilities[task.name]]
    if not tasks:
        source = without_secrets(table.source)
        print(f"{source}: no row has a label, so the choice is only as varied as can be.", file=sys.stderr)
    chosen = (strategy if tasks else diverse)(uncertainty, features.vectors[rows], count, seed)
    return [
        Suggestion(
            index=int(rows[i]), suggested=suggested(tasks, probabilities, i), score=round(float(uncertainty[i]), 6)
        )
        for i in chosen[np.argsort(-uncertainty[chosen], kind="stable")]
    ]


def learned(
    table: Table, features: Features, rows: np.ndarray, labelled: np.ndarray
) -> tuple[tuple[Task, ...], Probabilities]:
    """What linear models, trained on the `labelled` rows, say of the others."""
    if not len(labelled):
        return (), {}
    known = table.take(labelled)
    tasks = tuple(task for task in tasks_of(learn_outputs(known)) if task.names_labels)
    found: Probabilities = {}
    for task in tasks:
        targets = known.targets(task)
        there = [i for i, target in enumerate(targets) if task.labelled(target)]
        given = np.array([targets[i] for i in there])
        found[task.name] = list(predicted(task, features.take(labelled[there]), given, features.take(rows)))
    return tasks, found


def suggested(tasks: Sequence[Task], probabilities: Probabilities, row: int) -> str:
    """What the model would answer, as a cell; of several outputs each with its name."""
    cells: dict[str, Value] = {t.name: t.written(t.decided(t.decide(probabilities[t.name][row]))) for t in tasks}
    return "; ".join(f"{name}={cell}" for name, cell in cells.items()) if len(cells) > 1 else "".join(cells.values())
