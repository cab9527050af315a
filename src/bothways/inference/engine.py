"""The fast way forward: texts in any order and number → logits of every output layer, in the order given.

    texts ─ encode ─▶ encodings ─ run ─▶ predictions ─ tasks ─▶ probabilities, decisions, answers

The two halves can be entered one by one: encodings of many callers may share a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from bothways.batch import PackedBatch, Predictions, Reads
from bothways.batching import by_length
from bothways.errors import InputError
from bothways.formats.hub import locate
from bothways.formats.reading import LoadReport, load_model
from bothways.hardware import NumberFormat, core_pool
from bothways.inference.backend import Backend, TorchBackend
from bothways.long_texts import Selection
from bothways.model.bert import Bert
from bothways.model.outputs import logits_width
from bothways.tasks import tasks_of
from bothways.tokenizer import Encoding, Text, Tokenizer

Computed = TypeVar("Computed")
ALONE_TOKENS, SIDE_BY_SIDE_TOKENS = 8192, 1024
"""Most tokens in a batch that has the whole machine, and in one that has a core of its own."""


def load_classifier(name: str | os.PathLike) -> tuple[Bert, Tokenizer]:
    """A model that classifies, from a directory or a hub id.

    Raises InputError if it has no output layer that classifies, or one without trained weights.
    """
    bert, tokenizer, report = load_model(locate(name))
    if not tasks_of(bert.config.outputs):
        raise InputError(f"{name}: this encoder has no output layer that classifies; fine-tune it first.")
    require_trained(name, bert, report)
    return bert, tokenizer


def require_trained(name: str | os.PathLike, bert: Bert, report: LoadReport) -> None:
    """Raises InputError if an output layer that classifies has no trained weights."""
    tasks = tasks_of(bert.config.outputs)
    needed = {f"output layer {layer.name!r}" for task in tasks for layer in task.layers}
    if any(task.output.reads == "first" for task in tasks):
        needed.add("pooling")
    if lacking := [part for part in report.untrained if part in needed]:
        raise InputError(f"{name}: the weights of {lacking[0]} are missing; restore the files or fine-tune again.")


class Engine:
    """A model made ready for use. Threads may share it: nothing in it changes after construction."""

    def __init__(
        self,
        bert: Bert,
        tokenizer: Tokenizer,
        *,
        precision: NumberFormat | None = None,
        device: torch.device | None = None,
        backend: Backend | None = None,
        batch_tokens: int | None = None,
        window: int = 8192,
    ) -> None:
        """`backend`: what computes the logits; unless given, PyTorch with `precision` on `device`. `batch_tokens`: most
        tokens in one forward pass; None: what suits the machine. `window`: texts sorted by length together."""
        self.config, self.tokenizer = bert.config, tokenizer
        self.tasks = tasks_of(bert.config.outputs)
        """What its output layers decide, in order."""
        self.layers = [layer for task in self.tasks for layer in task.layers]
        names = [layer.name for layer in self.layers]
        self.backend = backend or TorchBackend(bert, names, precision=precision, device=device)
        self.batch_tokens, self.window = batch_tokens, window
        self.pretokenized = any(task.pretokenized for task in self.tasks)
        """Whether it reads texts as words."""

    def encode(
        self,
        texts: Sequence[Text],
        pairs: Sequence[Text] | None = None,
        *,
        selection: Selection | None = None,
        with_offsets: bool = False,
    ) -> list[Encoding]:
        """Texts (or pairs of texts) as the model reads them, truncated to what it can read, or in windows. `selection`:
        what is read of longer ones; None: what the model was trained with.

        Raises InputError for pairs where the model reads single texts, and the reverse.
        """
        if (pairs is None) != (len(self.config.text_columns) == 1):
            kinds = ("pairs of texts", "single texts")
            wanted, found = kinds if pairs is None else kinds[::-1]
            raise InputError(f"This model reads {wanted}, not {found}; give what it was trained on.")
        return self.tokenizer.encode_batch(
            texts,
            pairs,
            max_length=self.config.longest,
            selection=selection or self.config.selection,
            with_offsets=with_offsets or self.pretokenized,
        )

    def run(self, encodings: Sequence[Encoding]) -> Predictions:
        """The logits of any number of encodings, in their order. None depends on its neighbours."""
        lengths = lengths_of(encodings)
        computed, given = self._in_batches(encodings, self.backend.logits)
        parts = {layer.name: [logits[layer.name].numpy() for logits in computed] for layer in self.layers}
        of_texts, of_tokens = {}, {}
        for layer in self.layers:
            found = np.concatenate([np.empty((0, logits_width(layer)), np.float32), *parts[layer.name]])
            if layer.reads == "tokens":
                by_text = np.split(found, np.sort(lengths).cumsum()[:-1])
                of_tokens[layer.name] = [by_text[i] for i in given]
            else:
                of_texts[layer.name] = found[given]
        return Predictions(encodings, of_texts, of_tokens)

    def predict(self, texts: Iterable[Text], pairs: Iterable[Text] | None = None) -> Iterator[Predictions]:
        """Any number of texts (or pairs of texts), a window at a time; memory does not grow."""
        yield from map(self.run, self._windows(texts, pairs))

    def features(self, texts: Iterable[Text], pairs: Iterable[Text] | None = None) -> np.ndarray:
        """What the encoder makes of each text, without its output layers: the mean of its tokens in the last layer.

        → (texts, hidden) float32
        """
        parts = [np.empty((0, self.config.encoder.hidden_size), np.float32)]
        for encodings in self._windows(texts, pairs):
            parts.append(self.represent(encodings))
        return np.concatenate(parts)

    def _windows(self, texts: Iterable[Text], pairs: Iterable[Text] | None) -> Iterator[list[Encoding]]:
        """Texts (or pairs of texts) encoded, a window at a time."""
        texts, pairs = iter(texts), None if pairs is None else iter(pairs)
        while window := list(islice(texts, self.window)):
            yield self.encode(window, None if pairs is None else list(islice(pairs, self.window)))

    def represent(self, encodings: Sequence[Encoding], reads: Reads = "mean") -> np.ndarray:
        """What output layers see that read `reads`, first or mean: (texts, hidden) float32, in the order given."""
        computed, given = self._in_batches(encodings, partial(self.backend.representation, reads=reads))
        found = [representation.numpy() for representation in computed]
        return np.concatenate([np.empty((0, self.config.encoder.hidden_size), np.float32), *found])[given]

    def _in_batches(
        self, encodings: Sequence[Encoding], compute: Callable[[PackedBatch], Computed]
    ) -> tuple[list[Computed], np.ndarray]:
        """What `compute` makes of the encodings, batch by batch, and where in all of it each is found, (encodings,)."""
        lengths = lengths_of(encodings)
        enough = int(lengths.sum()) >= 2 * self.backend.side_by_side * SIDE_BY_SIDE_TOKENS
        side_by_side = self.backend.side_by_side > 1 and enough
        order = by_length(lengths, self.batch_tokens or (SIDE_BY_SIDE_TOKENS if side_by_side else ALONE_TOKENS))
        batches = [PackedBatch.pack([encodings[i] for i in indices]) for indices in order]
        if side_by_side:  # the longest first, so that no core waits for another at the end
            computed = list(core_pool().map(compute, reversed(batches)))[::-1]
        else:
            computed = [compute(batch) for batch in batches]
        return computed, np.argsort(np.concatenate([*order, np.empty(0, np.int64)]))


def lengths_of(encodings: Sequence[Encoding]) -> np.ndarray:
    """(encodings,) int64: the tokens of each."""
    return np.array([len(encoding) for encoding in encodings], np.int64)
