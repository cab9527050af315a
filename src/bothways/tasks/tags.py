"""`tags`: one label for each word of a text; a word in pieces is labelled by its first piece, as published."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import UNLABELLED, Predictions
from bothways.errors import InputError
from bothways.language import CHINESE
from bothways.model.config import OutputConfig
from bothways.tasks.cells import as_text, refuse_written_list
from bothways.tasks.evidence import log_odds
from bothways.tasks.scores import rounded
from bothways.tasks.statistics import Statistics, Sums, by_class, divided, f1_scores
from bothways.tasks.task import Task, closeness, softmax
from bothways.tasks.temperature import softmax_temperature
from bothways.tokenizer import Encoding, Text

PREFIX = re.compile(r"(?P<prefix>[BIMESLUW])(?:-(?P<type>.+))?")
"""A tag of an entity scheme: BIO; BIOES, where E ends an entity and S is one of a single word; BILOU, the same with L
and U; BMES, where M is what I is elsewhere."""
BEGINS, ENDS = "BSUW", "ELSUW"


class Tags(Task):
    """A cell has a tag for each word; a target the index of each; a decision the likeliest of each, -1 for a word
    without a token."""

    kind = "tags"
    chosen_by = ("f1", "accuracy")
    reads = "tokens"
    pretokenized = True

    @classmethod
    def says_nothing(cls, cell: Any, *, optional: bool) -> bool:
        """An empty cell has the tags of an empty text, unless other outputs speak for the row."""
        return cell is None or (cell == "" and optional)

    @classmethod
    def value(cls, cell: Any, *, text: Text, column: str, place: str) -> list[str]:
        refuse_written_list(
            cell, column, place, "write its tags with spaces between them, or use JSON lines or Parquet"
        )
        tags = cell if isinstance(cell, list) else as_text(cell, column, place).split()
        if len(tags) != len(text):
            characters = f" of {len(text[0])} characters" if len(text) == 1 and CHINESE.search(text[0]) else ""
            raise InputError(
                f"{place}: {len(text)} tokens{characters} but {len(tags)} tags in column {column!r}; give one tag for "
                f"each token, tokens separated by spaces (in Chinese, too, or one tag for each character of a sentence "
                f"without spaces)."
            )
        return [as_text(tag, column, place) for tag in tags]

    def target(self, value: list[str] | None, ids: dict[str, int]) -> np.ndarray | None:
        return None if value is None else np.array([ids[tag] for tag in value], np.int64)

    def labelled(self, target: np.ndarray | None) -> bool:
        return target is not None

    def label_counts(self, targets: Sequence[np.ndarray | None]) -> np.ndarray:
        given = [tags for tags in targets if tags is not None]
        return np.bincount(np.concatenate([np.zeros(0, np.int64), *given]), minlength=len(self.output.labels))

    def tensor(self, targets: Sequence[np.ndarray | None], encodings: Sequence[Encoding]) -> Tensor:
        """→ (tokens,) int64: each word's tag on its first piece."""
        spread = np.full(sum(map(len, encodings)), UNLABELLED, np.int64)
        start = 0
        for tags, encoding in zip(targets, encodings, strict=True):
            if tags is not None:
                pieces = encoding.first_pieces
                spread[start + pieces] = tags[encoding.word_of(pieces)]
            start += len(encoding)
        return torch.from_numpy(spread)

    def probabilities(self, predictions: Predictions) -> list[np.ndarray]:
        """→ for each text (words, labels), as far as it was read; NaN for words without a token."""
        by_text = []
        for logits, encoding in zip(predictions.token_logits[self.name], predictions.encodings, strict=True):
            pieces = encoding.first_pieces
            words = encoding.word_of(pieces)
            by_word = np.full((int(words.max(initial=-1)) + 1, logits.shape[-1]), np.nan, np.float32)
            by_word[words] = softmax(logits[pieces], self.output.temperature)
            by_text.append(by_word)
        return by_text

    def calibrated(self, predictions: Predictions, targets: Sequence[np.ndarray | None]) -> OutputConfig:
        logits, true = [], []
        for found, encoding, tags in zip(
            predictions.token_logits[self.name], predictions.encodings, targets, strict=True
        ):
            if tags is not None:
                pieces = encoding.first_pieces
                logits.append(found[pieces])
                true.append(tags[encoding.word_of(pieces)])
        return replace(self.output, temperature=softmax_temperature(np.concatenate(logits), np.concatenate(true)))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        read = ~np.isnan(probabilities).any(-1)
        best = np.full(len(probabilities), -1, np.int64)
        best[read] = probabilities[read].argmax(-1)
        return best

    def answer(self, probabilities: np.ndarray, text: Text, top: int | None = None) -> dict[str, Any]:
        """`{"words", "labels", "scores"}`, one entry each a word, null for one that was not read."""
        best = self.decide(probabilities)
        unread = [None] * (len(text) - len(best))
        return {
            "words": list(text),
            "labels": self.decided(best) + unread,
            "scores": [rounded(p[b]) if b >= 0 else None for p, b in zip(probabilities, best, strict=True)] + unread,
        }

    def columns(self, top: int | None = None) -> dict[str, type]:
        """The tag of each word and its score, spaces between; ? for a word that was not read."""
        return {"labels": str, "scores": str}

    def cells(self, answer: dict[str, Any], top: int | None = None) -> dict[str, Any]:
        scores = ("?" if score is None else str(score) for score in answer["scores"])
        return {"labels": self.written(answer["labels"]), "scores": " ".join(scores)}

    @classmethod
    def written(cls, value: list[str | None]) -> str:
        return " ".join(tag or "?" for tag in value)

    def decided(self, decision: np.ndarray) -> list[str | None]:
        """None for a word without a token."""
        return [self.output.labels[best] if best >= 0 else None for best in decision]

    def evidence(self, logits: Tensor, label: int) -> Tensor:
        return log_odds(logits.float() / self.output.temperature, label)

    def explained(self, probabilities: np.ndarray) -> list[int]:
        """Of one word: its tag."""
        return [int(probabilities.argmax())]

    def label_errors(
        self, targets: Sequence[np.ndarray], probabilities: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """A text is as sure as the least sure of its words that were read, and wrong if one of them is."""
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        of_text = np.repeat(np.arange(len(targets)), [len(p) for p in probabilities])
        labels = np.concatenate([target[: len(p)] for target, p in zip(targets, probabilities, strict=True)])
        predicted = np.concatenate(list(probabilities))
        read = ~np.isnan(predicted).any(-1)
        of_text, labels, predicted = of_text[read], labels[read], predicted[read]
        sure, wrong = np.ones(len(targets)), np.zeros(len(targets), bool)
        np.minimum.at(sure, of_text, get_label_quality_scores(labels, predicted))
        wrong[of_text[find_label_issues(labels, predicted, n_jobs=1)]] = True
        return sure, wrong

    def agreement(self, target: np.ndarray, probabilities: np.ndarray) -> tuple[int, int]:
        """Of the words that were read."""
        decided = self.decide(probabilities)
        read = decided >= 0
        return int((target[: len(decided)] == decided)[read].sum()), int(read.sum())

    def uncertainty(self, probabilities: np.ndarray) -> float:
        """The mean over all words that were read."""
        read = probabilities[~np.isnan(probabilities).any(-1)]
        return float(closeness(read).mean()) if len(read) else 0.0

    @property
    def types(self) -> list[str]:
        """The types of entities that the labels name, if they are of an entity scheme."""
        if not has_scheme(self.output.labels):
            return []
        matches = map(PREFIX.fullmatch, self.output.labels)
        return sorted({match["type"] or "" for match in matches if match})

    def statistics(self, expected: list[np.ndarray], probabilities: Sequence[np.ndarray]) -> Statistics:
        predicted = list(map(self.decide, probabilities))
        number = {name: index for index, name in enumerate(self.types)}
        names = [*self.output.labels, "O"]  # -1, a word without a token, is no entity
        counted = {name: np.zeros((len(expected), len(number))) for name in ("expected", "predicted", "true_positives")}
        for row, (tags, found) in enumerate(zip(expected, predicted, strict=True)):
            if not number:
                break
            true = entities([names[i] for i in tags])
            said = entities([names[i] for i in found])
            for name, whole in {"expected": true, "predicted": said, "true_positives": true & said}.items():
                for entity, _, _ in whole:
                    counted[name][row, number[entity]] += 1
        right = [(tags[: len(found)] == found).sum() for tags, found in zip(expected, predicted, strict=True)]
        return {"words": np.array(list(map(len, expected))), "right": np.array(right), **counted}

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Accuracy by word and, where tags are of an entity scheme, F1 by whole entity (CoNLL-2000: type and both ends
        right). A word that was not read counts as wrong."""
        result: dict[str, Any] = {"accuracy": divided(sums["right"], sums["words"])}
        if not self.types:
            return result
        all_types = {name: sums[name].sum() for name in ("true_positives", "expected", "predicted")}
        return result | {
            "precision": divided(all_types["true_positives"], all_types["predicted"]),
            "recall": divided(all_types["true_positives"], all_types["expected"]),
            "f1": f1_scores(all_types),
        }

    def details(self, sums: Sums) -> dict[str, Any]:
        return {"words": int(sums["words"]), **({"classes": by_class(sums, self.types)} if self.types else {})}


def words_of(text: str, tags: Any = None) -> list[str]:
    """A text → the words that have a tag each: what spaces part, or the characters of Chinese without spaces.

    `tags`: the cell of their tags, if there is one. Such a sentence with a single tag is a word, as in tables whose
    texts are parted into words.
    """
    words = text.split()
    characters = list("".join(words))
    if len(words) != 1 or not CHINESE.search(text):
        return words
    given = tags.split() if isinstance(tags, str) else tags
    return characters if not given or (isinstance(given, list) and len(given) == len(characters)) else words


def has_scheme(labels: Sequence[str]) -> bool:
    """Whether labels are of an entity scheme: all but O have one of its prefixes, and one begins an entity."""
    matches = [PREFIX.fullmatch(label) for label in labels if label != "O"]
    return all(matches) and any(match["prefix"] in "BISU" for match in matches if match)


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Tags of the words of a text → its entities as (type, first word, word after the last).

    As the program conlleval has it: an entity also begins where its first tag is missing, and ends where its last is.
    """
    found = set()
    start, open_type = 0, None
    for i, tag in enumerate([*tags, "O"]):
        match = PREFIX.fullmatch(tag)
        prefix, kind = (match["prefix"], match["type"] or "") if match else ("O", "")
        if open_type is not None and (prefix == "O" or prefix in BEGINS or kind != open_type):
            found.add((open_type, start, i))
            open_type = None
        if prefix != "O" and open_type is None:
            start, open_type = i, kind
        if prefix in ENDS:
            found.add((kind, start, i + 1))
            open_type = None
    return found
