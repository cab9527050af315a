"""The fast way forward: texts in any order and number → probabilities of every output layer, in the order given."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bothways.batch import PackedBatch
from bothways.batching import by_length
from bothways.errors import InputError
from bothways.formats.hub import locate
from bothways.formats.reading import load_model
from bothways.hardware import Precision, compiles_each_shape, default_device, keep_freed_memory, resolve
from bothways.model.bert import Bert
from bothways.tokenizer import Encoding, Text, Tokenizer


def load_classifier(name: str | os.PathLike) -> tuple[Bert, Tokenizer]:
    """A model that classifies, from a directory or a hub id.

    Raises InputError if it has no output layer that classifies, or one without trained weights.
    """
    bert, tokenizer, report = load_model(locate(name))
    classifies = [output for output in bert.config.outputs if output.kind not in ("masked_lm", "next_sentence")]
    if not classifies:
        raise InputError(f"{name}: this encoder has no output layer that classifies; fine-tune it first.")
    needed = {f"output layer {output.name!r}" for output in classifies}
    if any(output.reads == "first" for output in classifies):
        needed.add("pooling")
    if lacking := [part for part in report.untrained if part in needed]:
        raise InputError(f"{name}: the weights of {lacking[0]} are missing; restore the files or fine-tune again.")
    return bert, tokenizer


@dataclass(frozen=True)
class Scores:
    """What the model says about a window of texts."""

    probabilities: dict[str, np.ndarray | list[np.ndarray]]
    """By output: (texts, width) float32; for tags one (words, labels) array a text, NaN for words without a token."""
    tokens: np.ndarray
    """(texts,) int64: tokens read."""
    dropped: np.ndarray
    """(texts,) int64: tokens that did not fit."""


class Engine:
    """A model made ready for use. Threads may share it: nothing in it changes after construction."""

    def __init__(
        self,
        bert: Bert,
        tokenizer: Tokenizer,
        *,
        precision: Precision = "auto",
        device: torch.device | None = None,
        batch_tokens: int = 8192,
        window: int = 8192,
    ) -> None:
        """`batch_tokens`: most tokens in one forward pass. `window`: texts sorted by length together."""
        keep_freed_memory()
        self.device = device or default_device()
        self.tokenizer, self.batch_tokens, self.window = tokenizer, batch_tokens, window
        self.bert = copy.deepcopy(bert).to(self.device).eval().requires_grad_(False)
        # Only the encoder is worth a faster format; output layers are small, and scores deserve their digits.
        dtype = resolve(precision, self.device)
        self.bert.embeddings.to(dtype)
        self.bert.encoder.to(dtype)
        self.rounds = compiles_each_shape(self.device, dtype)
        self.pretokenized = any(output.kind == "tags" for output in bert.config.outputs)
        self.names = tuple(
            output.name for output in bert.config.outputs if output.kind not in ("masked_lm", "next_sentence")
        )

    def scores(self, texts: Iterable[Text], pairs: Iterable[Text] | None = None) -> Iterator[Scores]:
        """The scores of any number of texts (or pairs of texts), a window at a time; memory does not grow."""
        texts, pairs = iter(texts), None if pairs is None else iter(pairs)
        while window := list(islice(texts, self.window)):
            yield self.score(window, None if pairs is None else list(islice(pairs, self.window)))

    @torch.inference_mode()
    def score(self, texts: Sequence[Text], pairs: Sequence[Text] | None = None) -> Scores:
        """The scores of some texts (or pairs of texts) at once."""
        encodings = self.tokenizer.encode_batch(
            texts, pairs, max_length=self.bert.config.longest, with_offsets=self.pretokenized
        )
        if not encodings:
            return Scores({n: [] for n in self.names}, np.zeros(0, np.int64), np.zeros(0, np.int64))
        lengths = np.array([len(encoding) for encoding in encodings], np.int64)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.names}
        order = by_length(lengths, self.batch_tokens)
        for indices in order:
            batch = PackedBatch.pack([encodings[i] for i in indices]).to(self.device)
            sizes = {"tokens": len(batch.token_ids)}  # else as many as there are texts
            if self.rounds:
                batch = batch.rounded_up()
            for name, logits in self.bert(batch, only=self.names).items():
                output = self.bert.output(name)
                read = logits[: sizes.get(output.config.reads, len(indices))]
                parts[name].append(output.probabilities(read))
        return Scores(
            {name: self._in_order(name, parts[name], order, texts, encodings) for name in self.names},
            lengths,
            np.array([encoding.dropped for encoding in encodings], np.int64),
        )

    def _in_order(
        self,
        name: str,
        parts: list[Tensor],
        order: list[np.ndarray],
        texts: Sequence[Text],
        encodings: list[Encoding],
    ) -> np.ndarray | list[np.ndarray]:
        """Probabilities, batch by batch → text by text in the order given."""
        found = torch.cat(parts).cpu().numpy()
        indices = np.concatenate(order)
        if self.bert.output(name).config.kind != "tags":
            result = np.empty_like(found)
            result[indices] = found
            return result
        by_text: list[np.ndarray] = [np.empty(0)] * len(texts)
        start = 0
        for i in indices:
            encoding = encodings[i]
            pieces = encoding.first_pieces
            by_text[i] = np.full((len(texts[i]), found.shape[-1]), np.nan, np.float32)
            by_text[i][encoding.words[pieces]] = found[start + pieces]
            start += len(encoding)
        return by_text
