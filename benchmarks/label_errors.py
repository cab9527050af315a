"""Finding wrong labels: 5 % of a table's labels are changed at random; how many of the rows named first are among them?

`--data` names a folder with a folder for each table (train.csv.xz with the columns text and label). For each source of
probabilities: of the first 5 % of the rows, least sure labels first, the share whose label was changed (its precision,
and as many rows were changed as are looked at, so its recall too); then how many rows confident learning names, and
the same two figures for them. The tables have wrong labels of their own, which count against every method.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas

from bothways.classifier import TextClassifier
from bothways.formats.hub import AUTO
from bothways.labelling.features import encoder_features, frozen, tfidf_features
from bothways.labelling.label_errors import label_errors
from bothways.labelling.out_of_fold import folds_of, out_of_fold
from bothways.tables.duplicates import keys
from bothways.tables.table import Columns, Table, learn_outputs
from bothways.tasks import Task, tasks_of


def read(path: Path, rows: int, seed: int) -> Table:
    """A table, or `rows` of its rows drawn at random (0: all)."""
    found = pandas.read_csv(path, keep_default_na=False, dtype=str)
    if rows and rows < len(found):
        found = found.sample(rows, random_state=seed)
    lines = [f"line {i + 2}" for i in found.index]
    return Table(str(path), Columns(), lines, list(found["text"]), None, {"label": list(found["label"])})


def with_errors(table: Table, share: float, seed: int) -> tuple[Table, np.ndarray]:
    """The table with another label for a share of its rows, each other label alike; (rows,) bool: which they are."""
    random = np.random.default_rng(seed)
    labels = sorted(set(table.values["label"]))
    changed = np.zeros(len(table), bool)
    changed[random.choice(len(table), round(share * len(table)), replace=False)] = True
    noisy = [
        random.choice([other for other in labels if other != label]) if change else label
        for label, change in zip(table.values["label"], changed, strict=True)
    ]
    return dataclasses.replace(table, values={"label": [str(label) for label in noisy]}), changed


def sources(table: Table, task: Task, folds: int, tuned: bool) -> Iterator[tuple[str, np.ndarray, float]]:
    """Name, probabilities (rows, labels) and seconds of every source."""
    targets = table.targets(task)
    fold = folds_of(keys(table), table.values["label"], folds)
    features, seconds = {}, {}
    for name, make in (("TF-IDF", tfidf_features), ("frozen encoder", lambda t: encoder_features(frozen(AUTO, t), t))):
        began = time.perf_counter()
        features[name] = make(table)
        seconds[name] = time.perf_counter() - began
    for names in (["TF-IDF"], ["frozen encoder"], ["TF-IDF", "frozen encoder"]):
        began = time.perf_counter()
        probabilities = out_of_fold([features[name] for name in names], task, targets, fold)
        yield (
            f"{' + '.join(names)}, {folds} folds",
            probabilities,
            time.perf_counter() - began + sum(seconds[name] for name in names),
        )
    if not tuned:
        return
    labels = table.values["label"]
    began = time.perf_counter()
    yield (
        "fine-tuned on these rows",
        TextClassifier().fit(table.texts, labels).predict_proba(table.texts),
        (time.perf_counter() - began),
    )
    began = time.perf_counter()
    apart = np.zeros((len(table), len(task.output.labels)))
    for number in range(folds):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        classifier = TextClassifier().fit([table.texts[i] for i in outside], [labels[i] for i in outside])
        apart[inside] = classifier.predict_proba([table.texts[i] for i in inside])
    yield f"fine-tuned, {folds} folds", apart, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["sst2"])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each table; 0: all")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are changed")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--tuned", action="store_true", help="fine-tuned classifiers, too, which takes minutes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.tables:
        clean = read(given.data / name / "train.csv.xz", given.rows, given.seed)
        table, changed = with_errors(clean, given.share, given.seed)
        (task,) = tasks_of(learn_outputs(table))
        labels = np.array(table.targets(task))
        for source, probabilities, seconds in sources(table, task, given.folds, given.tuned):
            right = (probabilities.argmax(1) == np.array(clean.targets(task))).mean()
            order = np.argsort(probabilities[np.arange(len(table)), labels], kind="stable")
            first = changed[order[: changed.sum()]].mean()
            found = np.array([e.index for e in label_errors(table, [task], {"label": probabilities})], np.int64)
            print(
                f"{name}, {source}: accuracy {right:.1%}, first {given.share:.0%} named {first:.1%} changed; "
                f"{len(found):,} of {len(table):,} rows named, "
                f"{changed[found].sum() / max(1, len(found)):.1%} of them changed, "
                f"{changed[found].sum() / changed.sum():.1%} of those changed; {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
