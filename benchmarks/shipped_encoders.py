"""What the shipped encoders are worth: fine-tuned with the package's defaults, beside the same model without
pre-training and TF-IDF + linear SVM.

`--data` names a folder with a folder for each table (train, dev and test as .csv.xz, columns `text` and the label's).
Accuracy on the rows named in `TABLES`, mean over the seeds; every result is printed as soon as it is there.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
from sklearn.metrics import accuracy_score

from bothways import TextClassifier
from bothways.baselines.bag_of_words import BagOfWords
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.pretraining.initialization import new_encoder


class Labelled(NamedTuple):
    """A labelled table."""

    language: str
    evaluated_on: str
    label: str = "label"


TABLES = {
    "sst2": Labelled("en", "dev"),
    "agnews": Labelled("en", "test"),
    "clinc150": Labelled("en", "test"),
    "chnsenticorp": Labelled("zh", "test"),
    "thucnews": Labelled("zh", "test"),
    "tnews": Labelled("zh", "dev"),
    "online_shopping": Labelled("zh", "test", "sentiment"),
}


def read(path: Path, label: str, rows: int = 0) -> tuple[list[str], list[str]]:
    """The texts and labels of a table, or of `rows` of them chosen at random."""
    table = pandas.read_csv(path, keep_default_na=False, dtype=str)
    if rows and rows < len(table):
        table = table.sample(rows, random_state=0)
    return list(table["text"]), list(table[label])


def untrained(encoder: Path, out: Path) -> Path:
    """The same model with the weights it had before pre-training."""
    bert, tokenizer, _ = load_model(encoder)
    save_model(out, new_encoder(bert.config.encoder), tokenizer)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--en", default="en-mini", help="English encoder")
    parser.add_argument("--zh", default="zh-mini", help="Chinese encoder")
    parser.add_argument("--rows", type=int, default=0, help="training rows, chosen at random; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="if not the package's default")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=["svm", "untrained", "shipped"], help="what to leave out"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*texts are longer than")
    given = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    print(
        "| table | rows | method | accuracy, mean | each seed | seconds of training |\n|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.tables:
            about = TABLES[name]
            texts, labels = read(arguments.data / name / "train.csv.xz", about.label, arguments.rows)
            test, truth = read(arguments.data / name / f"{about.evaluated_on}.csv.xz", about.label)
            encoder = locate(getattr(arguments, about.language))
            fresh = Path(scratch) / about.language
            methods = {} if "shipped" in arguments.without else {encoder.name: encoder}
            if "untrained" not in arguments.without:
                methods["the same, not pre-trained"] = fresh if fresh.exists() else untrained(encoder, fresh)
            if "svm" not in arguments.without:
                svm = BagOfWords().fit(texts, labels)
                print(
                    f"| {name} {about.evaluated_on} | {len(texts):,} | TF-IDF + linear SVM "
                    f"| {accuracy_score(truth, svm.predict(test)):.2%} | | |",
                    flush=True,
                )
            for method, directory in methods.items():
                found, seconds = [], []
                for seed in arguments.seeds:
                    started = time.perf_counter()
                    classifier = TextClassifier(directory, seed=seed, **given).fit(texts, labels)
                    seconds.append(time.perf_counter() - started)
                    found.append(accuracy_score(truth, classifier.predict(test)))
                each = ", ".join(f"{accuracy:.2%}" for accuracy in found)
                print(
                    f"| {name} {about.evaluated_on} | {len(texts):,} | {method} | {np.mean(found):.2%} | {each} "
                    f"| {np.median(seconds):.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
