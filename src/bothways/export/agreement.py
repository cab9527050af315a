"""How far what was exported says what the engine says: the same texts through both, by way of the exported script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.inference.engine import Engine
from bothways.tokenizer import Encoding, Text

BATCH = 16
"""Texts side by side, of mixed lengths, so that padding is tested, too."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was found on some texts."""

    texts: int
    """How many were compared."""
    largest_difference: float
    """Of all logits; of one larger than 1, in relation to it."""
    same_decisions: float
    """The share of labels decided alike; 1 if nothing is decided."""

    def as_json(self) -> dict[str, Any]:
        """As `export.json` has it."""
        return asdict(self)


def agreement(engine: Engine, script: ModuleType, texts: Sequence[Text], pairs: Sequence[Text] | None) -> Agreement:
    """Compare the engine with the exported `script` on texts, or pairs of texts.

    Raises InputError if both do not read the same tokens.
    """
    encodings = engine.encode(texts, pairs)
    expected = engine.run(encodings)
    given = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    parts = []
    for start in range(0, len(given), BATCH):
        read = script.encode([script.as_read(text) for text in given[start : start + BATCH]])
        for ours, theirs in zip(encodings[start : start + BATCH], read, strict=True):
            require_same_tokens(ours, theirs)
        parts.append(script.logits(read))
    found = gathered(engine, encodings, parts)
    differences = [0.0]
    for wanted, got in zip(arrays(expected), arrays(found), strict=True):
        differences.append(float((np.abs(wanted - got) / np.maximum(1, np.abs(wanted))).max(initial=0)))
    return Agreement(
        texts=len(texts),
        largest_difference=max(differences) if np.isfinite(differences).all() else float("inf"),
        same_decisions=same_decisions(engine, expected, found),
    )


def require_same_tokens(ours: Encoding, theirs: Any) -> None:
    """Raise InputError if the exported tokenizer, an encoding of which is `theirs`, reads a text differently."""
    length = len(ours)
    same = sum(theirs.attention_mask) == length and np.array_equal(theirs.ids[:length], ours.token_ids)
    if not (same and np.array_equal(theirs.type_ids[:length], ours.segment_ids)):
        raise InputError(
            "The exported tokenizer.json does not read a text as the model does, so nothing was written; this "
            "tokenizer cannot be exported."
        )


def gathered(engine: Engine, encodings: Sequence[Encoding], parts: Sequence[Mapping[str, np.ndarray]]) -> Predictions:
    """The logits of padded batches in the form of the engine's."""
    of_texts, of_tokens = {}, {}
    for layer in engine.layers:
        rows = [row for part in parts for row in part[layer.name]]
        if layer.reads == "tokens":
            of_tokens[layer.name] = [row[: len(e)] for row, e in zip(rows, encodings, strict=True)]
        else:
            of_texts[layer.name] = np.stack(rows)
    return Predictions(encodings, of_texts, of_tokens)


def arrays(predictions: Predictions) -> list[np.ndarray]:
    """All logits."""
    return [*predictions.logits.values(), *(row for rows in predictions.token_logits.values() for row in rows)]


def same_decisions(engine: Engine, expected: Predictions, found: Predictions) -> float:
    """The share of labels that both decide alike: of each text, each label of several, each word."""
    same: list[np.ndarray] = []
    for task in engine.tasks:
        if task.names_labels:
            pairs = zip(task.probabilities(expected), task.probabilities(found), strict=True)
            same += [np.ravel(task.decide(ours) == task.decide(theirs)) for ours, theirs in pairs]
    decided = np.concatenate([np.ones(0, bool), *same])
    return float(decided.mean()) if len(decided) else 1.0
