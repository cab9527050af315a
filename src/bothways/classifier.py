"""`TextClassifier`: fit, predict, save, load. A scikit-learn estimator around the fine-tuning recipe."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from bothways.errors import InputError
from bothways.estimator import LABEL_TYPES, Labelled, TextEstimator, labelled, separate
from bothways.finetuning.config import FinetuningConfig, Pooling
from bothways.finetuning.run import fit
from bothways.formats.hub import AUTO, locate
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.inference.engine import Engine, load_classifier
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.tables.table import Columns, Table
from bothways.tasks import tasks_of
from bothways.tasks.single import SingleLabel
from bothways.tokenizer import Text, Tokenizer
from bothways.training.config import OptimizerName, Precision

OUTPUT = "label"


class TextClassifier(TextEstimator):
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
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: Sequence[Text], y: Sequence[Any]) -> TextClassifier:
        """Train on texts (or pairs of texts, as tuples) and their labels (strings, numbers or booleans, of one type).

        Raises InputError if texts and labels differ in number, one is missing or there is one class only.
        """
        given = labelled(X, y)
        table = Table(
            "the training texts",
            Columns(text_pair=None if given.pairs is None else "text_pair"),
            [f"text {i}" for i in range(1, len(given.texts) + 1)],
            given.texts,
            given.pairs,
            {OUTPUT: list(map(str, given.labels))},
        )
        output = OutputConfig(
            name=OUTPUT,
            kind="single",
            labels=tuple(map(str, given.classes)),
            label_type=given.label_type,  # type: ignore[arg-type]
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
            seed=self.seed,
        )
        bert, tokenizer = self._start(given)
        log = fit(bert, tokenizer, table, config, outputs=[output], quiet=not self.verbose)
        warn_if_truncated(log.truncated, len(given.texts), bert.config.longest)
        self._use(bert, tokenizer)
        self.classes_ = np.array(given.classes)
        return self

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probability of each class, in the order of `classes_`. (texts,) → (texts, classes) float32."""
        if not hasattr(self, "engine_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit or load first.")
        texts, pairs = separate(X)
        if not texts:
            return np.zeros((0, len(self.classes_)), np.float32)
        truncated, parts = 0, []
        for predictions in self.engine_.predict(texts, pairs):
            truncated += predictions.truncated
            parts.append(self.task_.probabilities(predictions))
        warn_if_truncated(truncated, len(texts), self.engine_.config.longest)
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

    def _start(self, given: Labelled) -> tuple[Bert, Tokenizer]:
        """The encoder that the training starts from."""
        bert, tokenizer, _ = load_model(locate(self.encoder, given.texts))
        return bert, tokenizer

    def _use(self, bert: Any, tokenizer: Any) -> None:
        self.bert_, self.tokenizer_ = bert, tokenizer
        self.engine_ = Engine(bert, tokenizer, precision=self.precision)
        self.task_ = next(task for task in self.engine_.tasks if isinstance(task, SingleLabel))


def warn_if_truncated(truncated: int, total: int, longest: int) -> None:
    """A Python warning if texts were longer than the model reads."""
    if truncated:
        warnings.warn(
            f"{truncated:,} of {total:,} texts are longer than {longest} tokens and are truncated.", stacklevel=3
        )
