"""Integrated gradients (arXiv 1703.01365), by `captum`: what a word contributes is the gradient of the evidence, summed
along the straight line from a text of [MASK] alone to the text, times how far each token's embedding has come.

They are complete: contributions add up to the evidence of the text less that of the baseline. How nearly is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import PackedBatch
from bothways.errors import InputError
from bothways.explanation.decisions import chosen, decisions_of
from bothways.explanation.leave_out import masked
from bothways.explanation.result import Completeness, Explained, Explanation, by_word, explanation_of
from bothways.explanation.words import Reading
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.tasks import Task
from bothways.tokenizer import Encoding

STEPS = (32, 128, 512)
"""At so many points the gradient is taken; more if contributions do not add up."""
ENOUGH = 0.02
"""They add up if no larger share of the difference is missing."""
AT_ONCE = 8192
"""Tokens of all points that are computed together."""
MOST_DECISIONS = 32
"""Of one text. Each takes as long as all variants of `leave_out`."""


class IntegratedGradients:
    """Explains by gradients along the way from a baseline."""

    name = "gradients"

    def __init__(self, bert: Bert, engine: Engine) -> None:
        """`bert`: the model of `engine`, which itself has no gradients. Raises InputError if captum is missing."""
        self.bert, self.engine = bert, engine
        require_captum()

    def explain(self, reading: Reading, task: Task, label: int | None = None) -> Explanation:
        """`label`: see `decisions.chosen`. Raises InputError for more than `MOST_DECISIONS` words with a tag each."""
        predictions = self.engine.run([reading.encoding])
        decisions = decisions_of(task, predictions)
        if len(decisions.words) > MOST_DECISIONS:
            raise InputError(
                f"The text has {len(decisions.words)} words with a tag each; gradients explain {MOST_DECISIONS} at "
                f"most, so give fewer, or explain by leaving out words."
            )
        explained = []
        for place, (word, token) in enumerate(zip(decisions.words, decisions.tokens, strict=True)):
            for index in chosen(task, decisions.scores[0, place], label):
                contributions, completeness = self._attribute(reading, task, index, token)
                explained.append(
                    Explained(
                        label=task.output.labels[index] if task.output.labels else None,
                        score=float(decisions.scores[0, place, index]),
                        word=word,
                        contributions=contributions,
                        completeness=completeness,
                    )
                )
        return explanation_of(reading, task, predictions, explained, method=self.name, unread=reading.unread)

    def _attribute(
        self, reading: Reading, task: Task, label: int, token: int | None
    ) -> tuple[tuple[float | None, ...], Completeness]:
        """What each word contributes to the evidence for a label, of the text or of the word at `token`."""
        of_words = reading.word_of_token >= 0
        baseline = masked(reading.encoding, of_words, self.engine.tokenizer.mask_id)
        evidence = evidence_at(self.bert, reading.encoding, task, label, token)
        table = self.bert.embeddings.token
        with torch.no_grad():
            vectors, begin = (
                table(torch.from_numpy(encoding.token_ids.astype(np.int64)))[None]
                for encoding in (reading.encoding, baseline)
            )
            difference = float(evidence(vectors) - evidence(begin))
        contributions, total, steps = np.zeros(len(reading.encoding)), 0.0, 0
        for steps in STEPS if of_words.any() else ():
            contributions = attributed(evidence, vectors, begin, steps)
            total = float(contributions.sum())
            if abs(total - difference) <= ENOUGH * max(abs(difference), 0.1):
                break
        sums = np.bincount(reading.word_of_token[of_words], contributions[of_words], minlength=len(reading.words))
        completeness = Completeness(sum=total, difference=difference, steps=steps)
        return by_word(reading, reading.read, sums[reading.read].tolist()), completeness


class EnteredAtVectors(Bert):
    """A model of the same parts as another, to which the vectors of its tokens are given, (tokens, hidden)."""

    def __init__(self, bert: Bert, vectors: Tensor) -> None:
        nn.Module.__init__(self)
        self.config, self.vectors = bert.config, vectors
        self.embeddings, self.encoder, self.pooling, self.outputs = (
            bert.embeddings,
            bert.encoder,
            bert.pooling,
            bert.outputs,
        )

    def encode(self, batch: PackedBatch, read: Tensor | None = None) -> Tensor:
        """See `Bert.encode`; the tokens of the batch are not looked up."""
        return self.encoder(self.embeddings.combine(self.vectors, batch), batch, read)


Evidence = Callable[[Tensor], Tensor]
"""The vectors of the tokens of n texts, (n, tokens, hidden) → (n,): the evidence for a label, with a gradient."""


def evidence_at(bert: Bert, encoding: Encoding, task: Task, label: int, token: int | None) -> Evidence:
    """The evidence of one text for a label of a task, or of its word at `token`."""
    only: Collection[str] = (task.name,)

    def evidence(vectors: Tensor) -> Tensor:
        batch = PackedBatch.pack([encoding] * len(vectors))
        logits = EnteredAtVectors(bert, vectors.flatten(0, 1))(batch, only)[task.name]
        if token is not None:
            logits = logits.unflatten(0, (len(vectors), -1))[:, token]
        return task.evidence(logits, label)

    return evidence


def attributed(evidence: Evidence, vectors: Tensor, begin: Tensor, steps: int) -> np.ndarray:
    """→ (tokens,) float64: what each token contributes."""
    found: Any = require_captum()(evidence).attribute(
        vectors,
        begin,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=max(1, AT_ONCE // vectors.shape[1]),
    )
    return found[0].detach().double().sum(-1).numpy()


def require_captum() -> Any:
    """captum's IntegratedGradients. Raises InputError if it is not installed."""
    try:
        from captum.attr import IntegratedGradients as Captum
    except ImportError:
        raise InputError("Gradients need captum; install it with pip install 'bothways[explain]'.") from None
    return Captum
