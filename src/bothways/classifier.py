"""`TextClassifier`: fit, predict, save, load. A scikit-learn estimator around the fine-tuning recipe."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.estimator import LABEL_TYPES, Labelled, TextEstimator, labelled, separate, separate_labels
from bothways.evaluation.calibration import FEWEST
from bothways.explanation.explain import explain
from bothways.explanation.leave_out import LeaveOneOut
from bothways.explanation.result import Explanation
from bothways.finetuning.config import FinetuningConfig, Imbalance, Pooling, within
from bothways.finetuning.fit import fit, learn_scores
from bothways.formats.hub import AUTO, at_revision, locate
from bothways.formats.publishing import MESSAGE, push
from bothways.formats.reading import load_model
from bothways.formats.writing import save_model
from bothways.hardware import NumberFormat
from bothways.inference.engine import Engine, load_classifier
from bothways.long_texts import LongTexts
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.tables.splitting import split_off
from bothways.tables.table import Columns, Table
from bothways.tasks import tasks_of
from bothways.tasks.single import SingleLabel
from bothways.tokenizer import Text, Tokenizer
from bothways.training.config import OptimizerName

if TYPE_CHECKING:
    from typing_extensions import Self

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
        long_texts: LongTexts | None = None,
        overlap: int | None = None,
        most_windows: int = 8,
        pooling: Pooling | None = None,
        optimizer: OptimizerName | None = None,
        precision: NumberFormat | None = None,
        held_out: float = 0.1,
        coverage: float | None = None,
        imbalance: Imbalance = "auto",
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        """`encoder`: a directory, a shipped encoder (en-mini, zh-mini) or a hub id, with @ and a revision or
        without; `auto` is the shipped one for the language of the texts. The rest as in `FinetuningConfig`."""
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.long_texts = long_texts
        self.overlap = overlap
        self.most_windows = most_windows
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
        given = labelled(X, y)
        table = as_table(given.texts, given.pairs, given.labels, "the training texts")
        output = OutputConfig(
            name=OUTPUT,
            kind="single",
            labels=tuple(map(str, given.classes)),
            label_type=given.label_type,  # type: ignore[arg-type]
            column=OUTPUT,
        )
        if self.precision == "int8" or self.precision == "int16":
            raise InputError(
                f"A model is used in {self.precision}, not trained in it; leave precision out, save, and load it with "
                f"{self.precision}."
            )
        config = FinetuningConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            max_length=self.max_length,
            long_texts=self.long_texts,
            overlap=self.overlap,
            most_windows=self.most_windows,
            pooling=self.pooling,
            optimizer=self.optimizer,
            precision=self.precision,
            held_out=self.held_out,
            coverage=self.coverage,
            imbalance=self.imbalance,
            seed=self.seed,
        )
        if dev is not None:
            held_out = as_table(*separate(dev[0]), separate_labels(dev[1]), "the dev texts")
            held_out.targets(SingleLabel(output))  # a label that training has not seen is said before the work
        else:
            share = config.held_out if round(len(table) * config.held_out) >= FEWEST else 0.0
            table, held_out = split_off(table, share, seed=config.seed)
        bert, tokenizer = self._start(given)
        if reduced := within(config, bert.config)[1]:
            warnings.warn(reduced, stacklevel=2)
        log = fit(bert, tokenizer, table, config, outputs=[output], quiet=not self.verbose)
        learn_scores(bert, tokenizer, table, held_out, config)
        warn_if_truncated(log.truncated, len(table), bert.config.longest_text)
        self._use(bert, tokenizer)
        self.classes_ = np.array(given.classes)
        return self

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probability of each class, in the order of `classes_`. (texts,) → (texts, classes) float32."""
        parts = [self.task_.probabilities(predictions) for predictions in self._predictions(X)]
        return np.concatenate([np.zeros((0, len(self.classes_)), np.float32), *parts])

    def known(self, X: Sequence[Text]) -> np.ndarray:
        """Whether each text is of any of the classes at all: (texts,) → (texts,) bool. It is true of 95 % of texts like
        those it was trained on; of all texts if too few were held out to tell."""
        parts = [np.ones(0, bool)]
        for predictions in self._predictions(X):
            known = self.task_.known(predictions)
            parts.append(np.ones(len(predictions.encodings), bool) if known is None else known)
        return np.concatenate(parts)

    def explain(self, X: Sequence[Text], *, label: Any = None) -> list[Explanation]:
        """What each word of each text contributes to the class that is predicted, or to `label`, by leaving it out."""
        if not hasattr(self, "engine_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit or load first.")
        texts, pairs = separate(X)
        method, named = LeaveOneOut(self.engine_), None if label is None else str(label)
        seconds: list[Text | None] = [None] * len(texts) if pairs is None else [*pairs]
        return [
            explain(method, text, second, output=self.task_.name, label=named)
            for text, second in zip(texts, seconds, strict=True)
        ]

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write a model directory that `load`, the command line and `transformers` can read."""
        if not hasattr(self, "bert_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit first.")
        save_model(path, self.bert_, self.tokenizer_, overwrite=overwrite)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, revision: str | None = None, commit_message: str = MESSAGE
    ) -> str:
        """Send it to the Hugging Face hub, as `save` writes it, and get its address. `HF_TOKEN` or `hf auth login` says
        who sends.

        `repo_id`: such as my-name/my-model; made if there is none, public unless `private`. `revision`: the branch.
        Raises InputError if the hub cannot be reached or does not take it.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / "model")
            return push(Path(folder) / "model", repo_id, private=private, revision=revision, message=commit_message)

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, revision: str | None = None, precision: NumberFormat | None = None
    ) -> Self:
        """Read a model directory, or a model of the Hugging Face hub, with a single-label output; labels come back as
        what `fit` was given. `revision`: a branch, tag or commit of the hub's."""
        path = at_revision(path, revision)
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

    def _predictions(self, X: Sequence[Text]) -> Iterator[Predictions]:
        """What the model says of texts, some thousand at a time."""
        if not hasattr(self, "engine_"):
            raise NotFittedError("This TextClassifier has not learned anything yet; call fit or load first.")
        texts, pairs = separate(X)
        truncated = 0
        for predictions in self.engine_.predict(texts, pairs) if texts else ():
            truncated += predictions.truncated
            yield predictions
        warn_if_truncated(truncated, len(texts), self.engine_.config.longest_text)

    def _use(self, bert: Any, tokenizer: Any) -> None:
        self.bert_, self.tokenizer_ = bert, tokenizer
        self.engine_ = Engine(bert, tokenizer, precision=self.precision)
        self.task_ = next(task for task in self.engine_.tasks if isinstance(task, SingleLabel))


def as_table(texts: list[Text], pairs: list[Text] | None, labels: list[Any], source: str) -> Table:
    """Texts and labels as a table. Raises InputError if they differ in number."""
    if len(texts) != len(labels):
        raise InputError(f"There are {len(texts)} texts but {len(labels)} labels; give one label each.")
    columns = Columns(text_pair=None if pairs is None else "text_pair")
    rows = [f"text {number}" for number in range(1, len(texts) + 1)]
    return Table(source, columns, rows, texts, pairs, {OUTPUT: list(map(str, labels))})


def warn_if_truncated(truncated: int, total: int, longest: int) -> None:
    """A Python warning if texts were longer than the model reads."""
    if truncated:
        warnings.warn(
            f"{truncated:,} of {total:,} texts are longer than {longest} tokens and are truncated.", stacklevel=4
        )
