"""Do explanations name the words that matter? What is lost without the three that contribute most, or three at random.

`--data` names a folder with a folder for each table (train and dev as .csv.xz, columns text and label). A classifier is
fine-tuned on `--rows` of them; then `--texts` dev texts are explained by leaving out words and by gradients. Told are
the mean loss of the predicted class's probability, the share of texts whose class it is no longer, and processor time.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas

from bothways.classifier import TextClassifier
from bothways.explanation.explain import Method, explain
from bothways.explanation.gradients import IntegratedGradients
from bothways.explanation.leave_out import LeaveOneOut, without
from bothways.explanation.words import read

REMOVED = 3
"""Words taken out of each text."""


def rows_of(path: Path, rows: int) -> pandas.DataFrame:
    """Some rows of a table, those of at most 200 characters."""
    table = pandas.read_csv(path, keep_default_na=False, dtype=str)
    table = table[table["text"].str.len().between(20, 200)]
    return table.sample(min(rows, len(table)), random_state=0)


def removed_words(method: Method, text: str) -> list[int]:
    """The words that speak most for what is predicted."""
    (each,) = explain(method, text).explained
    contributions = {i: value for i, value in enumerate(each.contributions) if value is not None}
    return sorted(contributions, key=lambda i: -contributions[i])[:REMOVED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["sst2", "chnsenticorp"])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--texts", type=int, default=60)
    given = parser.parse_args()
    for name in given.tables:
        train, dev = (rows_of(given.data / name / f"{part}.csv.xz", given.rows) for part in ("train", "dev"))
        classifier = TextClassifier(epochs=2, max_length=96).fit(list(train["text"]), list(train["label"]))
        engine, task = classifier.engine_, classifier.task_
        methods = {"words": LeaveOneOut(engine), "gradients": IntegratedGradients(classifier.bert_, engine)}
        random, texts = np.random.default_rng(0), list(dev["text"])[: given.texts]
        seconds = dict.fromkeys((*methods, "at random"), 0.0)
        losses: dict[str, list[float]] = {way: [] for way in seconds}
        lost: dict[str, list[bool]] = {way: [] for way in seconds}
        for text in texts:
            reading = read(engine, text)
            chosen = {}
            for way, method in methods.items():
                started = time.process_time()
                chosen[way] = removed_words(method, text)
                seconds[way] += time.process_time() - started
            chosen["at random"] = random.permutation(reading.read)[:REMOVED].tolist()
            variants = [without(reading.encoding, np.isin(reading.word_of_token, chosen[way])) for way in seconds]
            before, *after = task.probabilities(engine.run([reading.encoding, *variants]))
            for way, found in zip(seconds, after, strict=True):
                losses[way].append(before.max() - found[before.argmax()])
                lost[way].append(found.argmax() != before.argmax())
        print(f"{name}: {len(texts)} texts, accuracy {classifier.score(list(dev['text']), list(dev['label'])):.3f}")
        for way in seconds:
            each = f"{1000 * seconds[way] / len(texts):.0f} ms a text"
            print(f"  {way:10} probability -{np.mean(losses[way]):.3f}  other class {np.mean(lost[way]):.0%}  {each}")


if __name__ == "__main__":
    main()
