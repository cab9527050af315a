"""The Transformer without pre-training: what the architecture learns from the labelled texts alone."""

from __future__ import annotations

from bothways.classifier import TextClassifier
from bothways.estimator import Labelled
from bothways.model.bert import Bert
from bothways.pretraining.initialization import new_encoder
from bothways.tokenizer import Tokenizer


class UntrainedTransformer(TextClassifier):
    """A `TextClassifier` on an encoder's shape and vocabulary with fresh weights, so that nothing but its pre-training
    is missing; `seed` decides them."""

    def _start(self, given: Labelled) -> tuple[Bert, Tokenizer]:
        pretrained, tokenizer = super()._start(given)
        return new_encoder(pretrained.config.encoder, seed=self.seed), tokenizer
