"""What several outputs in one training cost and bring: together in one model against each alone in its own.

`--data` names a folder with a folder for each table (train and test as .csv.xz). Every training is with the package's
defaults on the same rows. Seconds are those of the processor, so that other work on the machine does not count; metrics
are on `--test-rows` rows of the test table. Every result is printed as soon as it is there.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bothways.evaluation.evaluate import evaluate
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.fit import fit
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.inference.engine import Engine
from bothways.tables.table import Columns, LabelColumn, Table, learn_outputs, read_table


class Labelled(NamedTuple):
    """A labelled table with several outputs."""

    encoder: str
    text: str
    outputs: tuple[str, ...]
    """As `--output` has them."""


TABLES = {
    "online_shopping": Labelled("zh-mini", "text", ("sentiment", "category")),
    "snips": Labelled("en-mini", "tokens", ("intent", "slots=tags:tags")),
    "imdb": Labelled("en-mini", "text", ("label", "rating=rating:regression")),
}


def read(path: Path, columns: Columns, rows: int) -> Table:
    """A table, or some of its rows chosen at random."""
    table = read_table(path, columns)
    return table.take(np.sort(np.random.default_rng(0).permutation(len(table))[:rows]))


def measure(
    encoder: str, train: Table, test: Table, weights: Sequence[float], config: FinetuningConfig
) -> tuple[dict[str, str], float]:
    """The metrics of each output, and the seconds of training."""
    bert, tokenizer, _ = load_model(locate(encoder))
    learned = zip(learn_outputs(train), weights, strict=True)
    outputs = [replace(output, loss_weight=weight) for output, weight in learned]
    started = time.process_time()
    fit(bert, tokenizer, train, config, outputs=outputs, quiet=True)
    seconds = time.process_time() - started
    measured = evaluate(Engine(bert, tokenizer), [test])["outputs"]
    return {
        name: ", ".join(f"{metric} {value:.4f}" for metric, value in figures.items() if isinstance(value, float))
        for name, figures in measured.items()
    }, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--rows", type=int, default=20_000, help="training rows, at most")
    parser.add_argument("--test-rows", type=int, default=4_000, help="rows to evaluate on, at most")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--weights", type=float, nargs=2, action="append", help="weights of the two losses together; may be repeated"
    )
    arguments = parser.parse_args()
    print(
        "| table | trained | loss weights | seed | output | metrics | seconds |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for name in arguments.tables:
        encoder, text, outputs = TABLES[name]
        labels = tuple(map(LabelColumn.parse, outputs))
        runs = [((label,), [1.0]) for label in labels]
        runs += [(labels, weights) for weights in arguments.weights or [[1.0, 1.0]]]
        for seed in arguments.seeds:
            config = FinetuningConfig(seed=seed, max_length=arguments.max_length)
            for chosen, weights in runs:
                columns = Columns(text=text, labels=chosen)
                train = read(arguments.data / name / "train.csv.xz", columns, arguments.rows)
                test = read(arguments.data / name / "test.csv.xz", columns, arguments.test_rows)
                measured, seconds = measure(encoder, train, test, weights, config)
                how = "together" if len(chosen) > 1 else "alone"
                for output, metrics in measured.items():
                    shown = " : ".join(f"{weight:g}" for weight in weights)
                    print(f"| {name} | {how} | {shown} | {seed} | {output} | {metrics} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
