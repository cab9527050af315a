"""A fine-tuned 6-layer classifier as the teacher of a mini: accuracy kept, and how many times as fast the student is.

`--data` names a folder with a folder for each table (train, dev and test as .csv.xz). The teacher is `en-small` or
`zh-small`, fine-tuned on all rows with the package's defaults (or one that was kept by `tables.py --keep`); the student
is the mini, which learns the teacher's probabilities of the training texts, and of other texts if `--more` names some;
beside it stands the mini fine-tuned on the labels. Texts a second are of the engine as it chooses for itself, the
median of three turns, each model in each turn.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from bothways.distillation.run import distill
from bothways.evaluation.evaluate import evaluate
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.fit import fit
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine
from results import add_save, save
from tables import TABLES, Run, some_of


def fine_tuned(encoder: str, data: Path, table: str, seed: int, out: Path) -> Path:
    """A classifier with the package's defaults, as a directory."""
    train, _ = some_of(data, Run(table, encoder, "", 0, seed))
    bert, tokenizer, _ = load_model(locate(encoder))
    fit(bert, tokenizer, train, FinetuningConfig(seed=seed), quiet=True)
    save_model(out, bert, tokenizer)
    return out


def texts_a_second(engines: dict[str, Engine], texts: list[str]) -> dict[str, float]:
    """How many each classifies, side by side."""
    found: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(3):
        for name, engine in engines.items():
            started = time.perf_counter()
            for _ in engine.predict(texts):
                pass
            found[name].append(len(texts) / (time.perf_counter() - started))
    return {name: float(np.median(speeds)) for name, speeds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["sst2", "thucnews"], choices=list(TABLES))
    parser.add_argument("--teachers", type=Path, help="where `tables.py --keep` has put classifiers")
    parser.add_argument("--more", nargs="+", default=[], help="more texts to learn from, without labels")
    parser.add_argument("--seed", type=int, default=0)
    add_save(parser)
    arguments = parser.parse_args()
    told = {}
    for table in arguments.tables:
        about = TABLES[table]
        small, mini = f"{about.language}-small", f"{about.language}-mini"
        with tempfile.TemporaryDirectory() as scratch:
            kept = (arguments.teachers or Path(scratch)) / f"{table}-{small}-0-{arguments.seed}"
            if not kept.is_dir():
                kept = fine_tuned(small, arguments.data, table, arguments.seed, Path(scratch) / "teacher")
            alone = fine_tuned(mini, arguments.data, table, arguments.seed, Path(scratch) / "alone")
            inputs = [arguments.data / table / "train.csv.xz", *arguments.more]
            student = Path(scratch) / "student"
            distill(inputs, student, teacher=kept, encoder=mini, quiet=True)
            _, test = some_of(arguments.data, Run(table, small, "", 0, arguments.seed))
            engines = {
                name: Engine(*load_model(path)[:2])
                for name, path in (("teacher", kept), ("student", student), ("labels alone", alone))
            }
            speeds = texts_a_second(engines, list(test.texts))
            told[table] = {}
            for name, engine in engines.items():
                accuracy = 100 * evaluate(engine, [test])["outputs"][about.label]["accuracy"]
                told[table][name] = {"accuracy": accuracy, "texts_per_second": speeds[name]}
            told[table]["times"] = speeds["student"] / speeds["teacher"]
            print(table, json.dumps(told[table]), flush=True)
    save(arguments.save, told)


if __name__ == "__main__":
    main()
