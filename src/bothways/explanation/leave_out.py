"""Leave-one-out: what a word contributes is what is lost without it (arXiv 1612.08220, section 3).

All variants of a text are one packed run. A word is left out by its tokens, so that a text that is truncated does not
get other words at its end in exchange. Where words have tags it is hidden by [MASK], since each tag needs its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from bothways.explanation.decisions import chosen, decisions_of
from bothways.explanation.result import Explained, Explanation, by_word, explanation_of
from bothways.explanation.words import Reading
from bothways.inference.engine import Engine
from bothways.tasks import Task
from bothways.tokenizer import Encoding

MOST_TOKENS = 1 << 16
"""Of all variants of a text. In longer ones several words that stand together are left out at a time."""


class LeaveOneOut:
    """Explains by leaving out each word in turn."""

    name = "words"

    def __init__(self, engine: Engine, most_tokens: int = MOST_TOKENS) -> None:
        self.engine, self.most_tokens = engine, most_tokens

    def explain(self, reading: Reading, task: Task, label: int | None = None) -> Explanation:
        """Contributions are evidence lost: with the word minus without it. `label`: see `decisions.chosen`."""
        tagged = task.output.reads == "tokens"
        unread = reading.unread
        read_tokens = len(reading.read) * len(reading.encoding)
        together = 1 if tagged else max(1, -(-read_tokens // self.most_tokens))
        reading = reading.in_groups(together)
        leave_out: Callable[[Encoding, np.ndarray], Encoding] = self._masked if tagged else without
        variants = [leave_out(reading.encoding, reading.word_of_token == word) for word in reading.read]
        predictions = self.engine.run([reading.encoding, *variants])
        decisions, explained = decisions_of(task, predictions), []
        for place, word in enumerate(decisions.words):
            logits = torch.from_numpy(decisions.logits[:, place])
            for index in chosen(task, decisions.scores[0, place], label):
                evidence = task.evidence(logits, index).double().numpy()
                scores = decisions.scores[:, place, index].tolist()
                explained.append(
                    Explained(
                        label=task.output.labels[index] if task.output.labels else None,
                        score=scores[0],
                        word=word,
                        contributions=by_word(reading, reading.read, (evidence[0] - evidence[1:]).tolist()),
                        scores_without=by_word(reading, reading.read, scores[1:]),
                    )
                )
        return explanation_of(reading, task, predictions, explained, method=self.name, unread=unread, together=together)

    def _masked(self, encoding: Encoding, hidden: np.ndarray) -> Encoding:
        return masked(encoding, hidden, self.engine.tokenizer.mask_id)


def without(encoding: Encoding, gone: np.ndarray) -> Encoding:
    """An encoding without some tokens, (tokens,) bool, in each of its windows."""
    windows = None
    if encoding.windows is not None:
        starts = np.cumsum((0, *encoding.windows[:-1]))
        windows = tuple(np.add.reduceat(~gone, starts, dtype=np.int64).tolist())
    return Encoding(encoding.token_ids[~gone], encoding.segment_ids[~gone], windows=windows)


def masked(encoding: Encoding, hidden: np.ndarray, mask_id: int) -> Encoding:
    """An encoding with some tokens, (tokens,) bool, replaced by [MASK]."""
    return replace(encoding, token_ids=np.where(hidden, mask_id, encoding.token_ids).astype(np.int32))
