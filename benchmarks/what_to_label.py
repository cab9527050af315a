"""What to label next: accuracy after each hundred labels, chosen in different ways, beside labels for rows at random.

`--data` names a folder with a folder for each table (train and test as .csv.xz, columns text and label). A classifier
starts from 100 rows drawn at random, the same for every way; then each way chooses 100 more, up to `--labels`. Without
`--tuned` the classifier is a logistic regression of the frozen encoder's features; with it the encoder is fine-tuned,
whose probabilities then choose. Accuracy on the test rows, mean over the seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas

from bothways.classifier import TextClassifier
from bothways.formats.hub import AUTO
from bothways.labelling.active_learning import Strategy, at_random, diverse, most_uncertain, uncertain_and_diverse
from bothways.labelling.features import Features, encoder_features, frozen
from bothways.labelling.out_of_fold import predicted
from bothways.tables.table import Columns, Table, learn_outputs
from bothways.tasks import Task, tasks_of

WAYS: dict[str, Strategy] = {
    "at random": at_random,
    "most uncertain": most_uncertain,
    "diverse": diverse,
    "uncertain and diverse": uncertain_and_diverse,
}


def read(data: Path, rows: int) -> tuple[Table, int]:
    """Rows to choose from and, after so many, rows to test on."""
    parts = [pandas.read_csv(data / f"{part}.csv.xz", keep_default_na=False, dtype=str) for part in ("train", "test")]
    parts = [part.sample(min(rows, len(part)), random_state=0) for part in parts]
    found = pandas.concat(parts)
    lines = [f"line {i}" for i in range(len(found))]
    return Table(str(data), Columns(), lines, list(found["text"]), None, {"label": list(found["label"])}), len(parts[0])


class Learner:
    """A classifier that is trained anew on each choice of rows and says what it makes of all."""

    def __init__(self, table: Table, features: Features, tuned: bool) -> None:
        (self.task,) = tasks_of(learn_outputs(table))
        self.table, self.features, self.tuned = table, features, tuned
        self.targets = np.array(table.targets(self.task))

    def probabilities(self, chosen: np.ndarray) -> np.ndarray:
        """(chosen,) rows with a label → (rows, labels) for all rows."""
        if not self.tuned:
            return predicted(self.task, self.features.take(chosen), self.targets[chosen], self.features)
        classifier = TextClassifier().fit([self.table.texts[i] for i in chosen], list(self.targets[chosen]))
        found = np.zeros((len(self.table), len(self.task.output.labels)), np.float32)
        found[:, classifier.classes_] = classifier.predict_proba(self.table.texts)
        return found


def curve(learner: Learner, pool: int, way: Strategy, labels: int, seed: int) -> list[float]:
    """Accuracy on the rows after `pool` with 100, 200, … labels."""
    task: Task = learner.task
    chosen = np.random.default_rng(seed).permutation(pool)[:100]
    accuracies = []
    while True:
        probabilities = learner.probabilities(chosen)
        accuracies.append(float((probabilities[pool:].argmax(1) == learner.targets[pool:]).mean()))
        if len(chosen) >= labels:
            return accuracies
        left = np.setdiff1d(np.arange(pool), chosen)
        uncertainty = np.array([task.uncertainty(p) for p in probabilities[left]])
        chosen = np.append(chosen, left[way(uncertainty, learner.features.vectors[left], 100, seed)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["agnews", "thucnews"])
    parser.add_argument("--rows", type=int, default=10_000, help="rows to choose from, and as many to test on at most")
    parser.add_argument("--labels", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--tuned", action="store_true", help="fine-tune the encoder at every step, which takes minutes")
    given = parser.parse_args()
    for name in given.tables:
        table, pool = read(given.data / name, given.rows)
        learner = Learner(table, encoder_features(frozen(AUTO, table), table), given.tuned)
        for way in given.ways:
            curves = [curve(learner, pool, WAYS[way], given.labels, seed) for seed in range(given.seeds)]
            mean = " ".join(f"{value:.1%}" for value in np.mean(curves, axis=0))
            deviation = " ".join(f"{value:.1%}" for value in np.std(curves, axis=0))
            print(f"{name}, {way}: {mean} (deviation {deviation})", flush=True)


if __name__ == "__main__":
    main()
