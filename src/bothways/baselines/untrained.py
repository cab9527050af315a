"""The Transformer without pre-training: what the architecture learns from the labelled texts alone."""

from __future__ import annotations

import os
from typing import Any

from bothways.classifier import TextClassifier
from bothways.estimator import Labelled
from bothways.model.bert import Bert
from bothways.model.config import preset
from bothways.pretraining.initialization import new_encoder
from bothways.tokenizer import Tokenizer
from bothways.training.config import Precision


class UntrainedTransformer(TextClassifier):
    """A `TextClassifier` on fresh weights, with a vocabulary learned from the texts it is fitted to."""

    def __init__(
        self,
        size: str = "mini",
        *,
        vocab_size: int = 8000,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
        max_length: int | None = None,
        precision: Precision | None = None,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        """`size`: a preset. `vocab_size`: entries of the vocabulary, at most. The rest as in `TextClassifier`."""
        super().__init__(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_length=max_length,
            precision=precision,
            seed=seed,
            verbose=verbose,
        )
        self.size = size
        self.vocab_size = vocab_size

    def _start(self, given: Labelled) -> tuple[Bert, Tokenizer]:
        texts: list[Any] = [*given.texts, *(given.pairs or ())]
        tokenizer = Tokenizer.train(texts, self.vocab_size)
        return new_encoder(preset(self.size, tokenizer.vocab_size), seed=self.seed), tokenizer

    @classmethod
    def load(cls, path: str | os.PathLike, *, precision: Precision | None = None) -> UntrainedTransformer:
        """Read what `save` has written; see `TextClassifier.load`."""
        loaded, classifier = TextClassifier.load(path, precision=precision), cls(precision=precision)
        classifier._use(loaded.bert_, loaded.tokenizer_)
        classifier.classes_ = loaded.classes_
        return classifier
