"""The methods that can take part, by the names that `--methods` knows."""

from __future__ import annotations

import os
from typing import Any

from bothways.comparison.measure import Contender
from bothways.evaluation.page import Words
from bothways.formats.hub import AUTO


def contenders(encoder: str | os.PathLike = AUTO) -> dict[str, Contender]:
    """By name. `encoder`: what BERT starts from."""

    def svm(seed: int) -> Any:
        from bothways.baselines.bag_of_words import BagOfWords

        return BagOfWords()

    def bert(seed: int) -> Any:
        from bothways.classifier import TextClassifier

        return TextClassifier(encoder, seed=seed, verbose=True)

    known = (
        Contender("svm", Words("TF-IDF + linear SVM", "TF-IDF + 线性 SVM"), svm),
        Contender("bert", Words("BERT, fine-tuned", "BERT 微调"), bert),
    )
    return {one.name: one for one in known}
