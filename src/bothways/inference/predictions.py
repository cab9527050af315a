"""From probabilities to what people read: labels with scores, numbers, tagged words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bothways.inference.engine import Scores
from bothways.model.config import OutputConfig
from bothways.tokenizer import Text


def predictions(outputs: Sequence[OutputConfig], texts: Sequence[Text], scores: Scores) -> Iterator[dict[str, Any]]:
    """One JSON object for each text:
    `{"text": …, "outputs": {NAME: …}, "tokens": n, "truncated": false}`, see `prediction` for what NAME holds."""
    for i, text in enumerate(texts):
        yield {
            "text": text if isinstance(text, str) else " ".join(text),
            "outputs": {
                output.name: prediction(output, scores.probabilities[output.name][i], text) for output in outputs
            },
            "tokens": int(scores.tokens[i]),
            "truncated": bool(scores.dropped[i]),
        }


def prediction(output: OutputConfig, probabilities: np.ndarray, text: Text) -> dict[str, Any]:
    """What one output layer says of one text.

    single: `{"label", "score", "scores": {label: p}}`; multi: `{"labels": [those present], "scores"}`;
    regression: `{"value"}`; tags: `{"words", "labels", "scores"}`, one entry each a word (null where it was cut off).
    """
    if output.kind == "regression":
        return {"value": rounded(probabilities[0])}
    if output.kind == "tags":
        best = most_likely(probabilities)
        return {
            "words": list(text),
            "labels": [output.labels[b] if b >= 0 else None for b in best],
            "scores": [rounded(p[b]) if b >= 0 else None for p, b in zip(probabilities, best, strict=True)],
        }
    scores = {label: rounded(p) for label, p in zip(output.labels, probabilities, strict=True)}
    if output.kind == "multi":
        present = probabilities >= thresholds(output)
        return {
            "labels": [label for label, here in zip(output.labels, present, strict=True) if here],
            "scores": scores,
        }
    label = output.labels[int(probabilities.argmax())]
    return {"label": label, "score": scores[label], "scores": scores}


def thresholds(output: OutputConfig) -> np.ndarray:
    """(labels,) float32: from which probability each label of a `multi` output counts as present."""
    return np.array(output.thresholds or [0.5] * len(output.labels), np.float32)


def most_likely(probabilities: np.ndarray) -> np.ndarray:
    """(words, labels) → (words,) int64: the likeliest label of each word; -1 for a word without a token."""
    read = ~np.isnan(probabilities).any(-1)
    best = np.full(len(probabilities), -1, np.int64)
    best[read] = probabilities[read].argmax(-1)
    return best


def rounded(value: float) -> float:
    """Six digits: more than a score deserves, few enough to read."""
    return round(float(value), 6)
