"""`TextClassifier`: fit, predict, save, load. A scikit-learn estimator around the fine-tuning recipe."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.evaluation.calibration import FEWEST, calibrate
from bothways.finetuning.config import FinetuningConfig, Imbalance, Pooling
from bothways.finetuning.run import fit
from bothways.formats.hub import AUTO, locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine, load_classifier
from bothways.model.config import OutputConfig
from bothways.tables.table import Columns, Table, split_off
from bothways.tasks import tasks_of
from bothways.tasks.single import SingleLabel
from bothways.tasks.task import alike
from bothways.tokenizer import Text
from bothways.training.config import OptimizerName, Precision

OUTPUT = "label"
LABEL_TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda label: label == "True",
}
"""A type of labels → how to read one that was written as text."""


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Sorts texts into classes with a BERT encoder.

    >>> classifier = TextClassifier().fit(texts, labels)   # doctest: +SKIP
    >>> classifier.predict(["a film to remember"])         # doctest: +SKIP
    array(['positive'], dtype='<U8')
    """

    def __init__(
        self,
        encoder: str | os.PathLike = AUTO,
        *,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
        max_length: int | None = None,
        pooling: Pooling | None = None,
        optimizer: OptimizerName | None = None,
        precision: Precision | None = None,
        held_out: float = 0.1,
        coverage: float | None = None,
        imbalance: Imbalance = "auto",
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        """`encoder`: a directory, a shipped encoder (en-mini, zh-mini) or a hub id; `auto` is the shipped one for the
        language of the texts. The rest as in `FinetuningConfig`."""
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.pooling = pooling
        self.optimizer = optimizer
        self.precision = precision
        self.held_out = held_out
        self.coverage = coverage
        self.imbalance = imbalance
        self.seed = seed
        self.verbose = verbose

    def fit(
        self, X: Sequence[Text], y: Sequence[Any], *, dev: tuple[Sequence[Text], Sequence[Any]] | None = None
    ) -> TextClassifier:
        """Train on texts (or pairs of texts, as tuples) and their labels (strings, numbers or booleans, of one type).

        `dev`: as many texts and labels that are not trained on, to learn from them what scores mean and which texts are
        of none of the classes; None: the share `held_out` of the others, if that makes ten.

        Raises InputError if texts and labels differ in number, one is missing or there is one class only.
        """
        table, classes = as_table(X, y, "the training texts")
        for group in alike(map(str, classes)):
            warnings.warn(f"Are the labels {', '.join(map(repr, group))} meant to be the same?", stacklevel=2)
        if len(classes) < 2:
            raise InputError("All texts have the same label; there is nothing to tell apart.")
        output = OutputConfig(
            name=OUTPUT,
            kind="single",
            labels=tuple(map(str, classes)),
            label_type=type(classes[0]).__name__,  # type: ignore[arg-type]
            column=OUTPUT,
        )
        config = FinetuningConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            max_length=self.max_length,
            pooling=self.pooling,
            optimizer=self.optimizer,
            precision=self.precision,
            held_out=self.held_out,
            coverage=self.coverage,
            imbalance=self.imbalance,
            seed=self.seed,
        )
        if dev is not None:
            held_out, _ = as_table(*dev, "the dev texts")
            held_out.targets(SingleLabel(output))  # a label that training has not seen is said before the work
        else:
            share = config.held_out if round(len(table) * config.held_out) >= FEWEST else 0.0
            table, held_out = split_off(table, share, at_most=2000, seed=config.seed)
        bert, tokenizer, _ = load_model(locate(self.encoder, table.texts))
        log = fit(bert, tokenizer, table, config, outputs=[output], quiet=not self.verbose)
        calibrate(bert, tokenizer, table, held_out, coverage=config.coverage, seed=config.seed)
        warn_if_truncated(log.truncated, len(table), bert.config.longest)
        self._use(bert, tokenizer)
        self.classes_ = np.array(classes)
        return self

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probability of each class, in the order of `classes_`. (texts,) → (texts, classes) float32."""
        parts = [self.task_.probabilities(predictions) for predictions in self._predictions(X)]
        return np.concatenate([np.zeros((0, len(self.classes_)), np.float32), *parts])

    def predict(self, X: Sequence[Text]) -> np.ndarray:
        """The likeliest class of each text, as it was given to `fit`. (texts,) → (texts,)"""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(-1)]

    def known(self, X: Sequence[Text]) -> np.ndarray:
        """Whether each text is of any of the classes at all: (texts,) → (texts,) bool. It is true of 95 % of texts like
        those it was trained on; of all texts if too few were held out to tell."""
        parts = [np.ones(0, bool)]
        for predictions in self._predictions(X):
            known = self.task_.known(predictions)
            parts.append(np.ones(len(predictions.encodings), bool) if known is None else known)
        return np.concatenate(parts)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write a model directory that `load`, the command line and `transformers` can read."""
        if not hasattr(self, "bert_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit first.")
        save_model(path, self.bert_, self.tokenizer_, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike, *, precision: Precision | None = None) -> TextClassifier:
        """Read a model directory with a single-label output; labels come back as what `fit` was given."""
        bert, tokenizer = load_classifier(path)
        tasks = [task for task in tasks_of(bert.config.outputs) if isinstance(task, SingleLabel)]
        if len(tasks) != 1:
            raise InputError(f"{path}: a TextClassifier has one single-label output, this model {len(tasks)}.")
        classifier = cls(encoder=str(path), precision=precision)
        classifier._use(bert, tokenizer)
        classifier.classes_ = np.array(list(map(LABEL_TYPES[tasks[0].output.label_type], tasks[0].output.labels)))
        return classifier

    def _predictions(self, X: Sequence[Text]) -> Iterator[Predictions]:
        """What the model says of texts, some thousand at a time."""
        if not hasattr(self, "engine_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit or load first.")
        texts, pairs = separate(X)
        truncated = 0
        for predictions in self.engine_.predict(texts, pairs) if texts else ():
            truncated += predictions.truncated
            yield predictions
        warn_if_truncated(truncated, len(texts), self.engine_.config.longest)

    def _use(self, bert: Any, tokenizer: Any) -> None:
        self.bert_, self.tokenizer_ = bert, tokenizer
        self.engine_ = Engine(bert, tokenizer, precision=self.precision)
        self.task_ = next(task for task in self.engine_.tasks if isinstance(task, SingleLabel))


def as_table(X: Sequence[Text], y: Sequence[Any], source: str) -> tuple[Table, list[Any]]:
    """Texts and labels as given by the user → (a table, the classes in order). InputError as in `fit`."""
    texts, pairs = separate(X)
    labels = separate_labels(y)
    if len(texts) != len(labels):
        raise InputError(f"There are {len(texts)} texts but {len(labels)} labels; give one label each.")
    columns = Columns(text_pair=None if pairs is None else "text_pair")
    rows = [f"text {number}" for number in range(1, len(texts) + 1)]
    return Table(source, columns, rows, texts, pairs, {OUTPUT: list(map(str, labels))}), sorted(set(labels))


def warn_if_truncated(truncated: int, total: int, longest: int) -> None:
    """A Python warning if texts were longer than the model reads."""
    if truncated:
        warnings.warn(
            f"{truncated:,} of {total:,} texts are longer than {longest} tokens and are truncated.", stacklevel=4
        )


def separate(texts: Iterable[Text]) -> tuple[list[Text], list[Text] | None]:
    """Texts, or pairs of texts, as given by the user → (first texts, second texts or None).

    Raises InputError for what is no list of texts, and for what iterates over something else.
    """
    if isinstance(texts, str):
        raise InputError("Give a list of texts; for one text, a list with it alone.")
    if isinstance(texts, (Mapping, Set)) or hasattr(texts, "columns"):
        kind = type(texts).__name__
        raise InputError(f"A {kind} is no list of texts, since it would give its names or no order; give one column.")
    if not isinstance(texts, Iterable):
        raise InputError(f"{texts!r} is no list of texts; give one.")
    given = list(texts)
    for index, text in enumerate(given, start=1):
        paired = isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(t, str) for t in text)
        if not isinstance(text, str) and not paired:
            raise InputError(f"Text {index} is {text!r}; give a string, or a pair of strings.")
        if paired != isinstance(given[0], (tuple, list)):
            raise InputError(f"Text {index} is {'a pair' if paired else 'no pair'}, unlike the first; give one kind.")
    if given and not isinstance(given[0], str):
        return [first for first, _ in given], [second for _, second in given]
    return given, None


def separate_labels(y: Any) -> list[Any]:
    """Labels as given by the user, a list, an array, or one column of a frame → Python values of one type.

    Raises InputError for a missing label (None, NaN or an empty string), and for labels of several types or none that
    a model directory can keep.
    """
    if y is None or isinstance(y, (str, bytes, Mapping, Set)) or not hasattr(y, "__len__"):
        raise InputError(f"{y!r} is no list of labels; give one label for each text.")
    shape: tuple[int, ...] = getattr(y, "shape", (len(y),))
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise InputError(f"The labels have the shape {tuple(shape)}; give one column, one label for each text.")
    given = np.empty(len(y), object)
    given[:] = list(y.iloc[:, 0] if len(shape) == 2 and hasattr(y, "iloc") else y)
    labels = [alone(label) for label in given]
    for number, label in enumerate(labels, start=1):
        if label is None or label == "" or label != label:  # as NaN is
            raise InputError(f"Label {number} is missing; give one for each text, or leave the text out.")
        if type(label).__name__ not in LABEL_TYPES:
            raise InputError(
                f"Label {number} is {label!r}; give one label for each text in one column, each a string, a number or "
                f"a boolean."
            )
    types = sorted({type(label).__name__ for label in labels})
    if len(types) > 1:
        raise InputError(f"The labels are of several types ({', '.join(types)}); give all of one type.")
    return labels


def alone(label: Any) -> Any:
    """A label as a Python value; one that stands alone in a row is taken out of it, pandas' missing ones are None."""
    if isinstance(label, (list, tuple, np.ndarray)) and np.shape(label) == (1,):
        label = label[0]
    if type(label).__name__ in ("NAType", "NaTType"):
        return None
    return label.item() if isinstance(label, np.generic) else label
