"""The Transformer without pre-training: what the architecture learns from the labelled texts alone."""

from __future__ import annotations

import os

from bothways.classifier import TextClassifier
from bothways.estimator import Labelled
from bothways.formats.hub import AUTO
from bothways.hardware import NumberFormat
from bothways.model.bert import Bert
from bothways.pretraining.initialization import new_encoder
from bothways.tokenizer import Tokenizer


class UntrainedTransformer(TextClassifier):
    """A `TextClassifier` on an encoder's shape and vocabulary with fresh weights, so that nothing but its pre-training
    is missing."""

    def __init__(
        self,
        encoder: str | os.PathLike = AUTO,
        *,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
        max_length: int | None = None,
        precision: NumberFormat | None = None,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        """As in `TextClassifier`; `seed` decides the weights of the encoder, too."""
        super().__init__(
            encoder,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_length=max_length,
            precision=precision,
            seed=seed,
            verbose=verbose,
        )

    def _start(self, given: Labelled) -> tuple[Bert, Tokenizer]:
        pretrained, tokenizer = super()._start(given)
        return new_encoder(pretrained.config.encoder, seed=self.seed), tokenizer

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, revision: str | None = None, precision: NumberFormat | None = None
    ) -> UntrainedTransformer:
        """Read what `save` has written; see `TextClassifier.load`."""
        loaded = TextClassifier.load(path, revision=revision, precision=precision)
        classifier = cls(loaded.encoder, precision=precision)
        classifier._use(loaded.bert_, loaded.tokenizer_)
        classifier.classes_ = loaded.classes_
        return classifier
