"""Long texts: windows that overlap against the first tokens, the last, and both ends, with the same encoder.

`--data` names a folder with imdb/train.csv.xz and imdb/test.csv.xz (columns `text` and `label`). The same rows are
learned and evaluated each time; every result is printed as soon as it is there. Seconds are those of fine-tuning and of
classifying the test rows, tokenization included.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score

from bothways import TextClassifier
from tables import read

WAYS = ("head", "tail", "both", "windows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", default="imdb")
    parser.add_argument("--encoder", default="en-mini")
    parser.add_argument("--rows", type=int, default=4000, help="training rows, chosen at random; 0: all")
    parser.add_argument("--test-rows", type=int, default=2000, help="test rows, chosen at random; 0: all")
    parser.add_argument("--max-length", type=int, nargs="+", default=[128], help="tokens of a text or a window")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--overlap", type=int, help="if not the package's default")
    parser.add_argument("--most-windows", type=int, default=8)
    parser.add_argument("--pooling", choices=["first", "mean"], help="if not the package's default")
    parser.add_argument("--epochs", type=int, help="if not the package's default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*texts are longer than")
    texts, labels = read(arguments.data / arguments.table / "train.csv.xz", "label", arguments.rows)
    test, truth = read(arguments.data / arguments.table / "test.csv.xz", "label", arguments.test_rows)
    print(
        f"{arguments.table}, {len(texts):,} training rows, {len(test):,} test rows, {arguments.encoder}\n"
        "| tokens | what is read | accuracy, mean | each seed | seconds of training | of classifying |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    for max_length in arguments.max_length:
        for way in arguments.ways:
            found, training, classifying = [], [], []
            for seed in arguments.seeds:
                started = time.perf_counter()
                classifier = TextClassifier(
                    arguments.encoder,
                    max_length=max_length,
                    long_texts=way,
                    overlap=arguments.overlap,
                    most_windows=arguments.most_windows,
                    pooling=arguments.pooling,
                    epochs=arguments.epochs,
                    seed=seed,
                ).fit(texts, labels)
                trained = time.perf_counter()
                found.append(accuracy_score(truth, classifier.predict(test)))
                training.append(trained - started)
                classifying.append(time.perf_counter() - trained)
            each = ", ".join(f"{accuracy:.2%}" for accuracy in found)
            print(
                f"| {max_length} | {way} | {np.mean(found):.2%} | {each} | {np.median(training):.1f} "
                f"| {np.median(classifying):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
