"""What all routes share: from the texts of a request to what a model says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.hardware import cores, default_device
from bothways.long_texts import HEAD, Selection, Tail
from bothways.serving.batcher import Batcher, Compute, Computed
from bothways.serving.config import ServingConfig
from bothways.serving.metrics import Metrics
from bothways.serving.models import CPU_TOKENS, Models, ServedModel, together
from bothways.serving.refusals import Empty, Invalid
from bothways.tables.table import text_cell
from bothways.tokenizer import Encoding, Text

Direction = Literal["left", "right", "Left", "Right"]
"""The end of a long text at which tokens are left out."""
TEXT = "text"
LARGEST_ON_CPU = 2 * CPU_TOKENS
"""Most tokens in a batch on a CPU: larger ones are no faster, and hundreds of answers at a time keep those waiting who
ask meanwhile."""
EXPLAINERS = 8
"""Explanations that wait for their batches at a time."""
REMEMBERED = 50
"""Requests from which the tokens of a character are known, the last ones above all."""


@dataclass
class Request:
    """The texts of one request, and what is known of its way."""

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    truncate: bool | None = None
    """Whether longer texts may be truncated; None: as the server is set."""
    direction: Direction = "right"
    method: str = "batch"
    """How it counts in the metrics: single or batch."""
    begun: float = field(default_factory=time.monotonic)
    tokens: int = 0
    truncated: int = 0
    tokenization_seconds: float = 0.0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0

    @property
    def characters(self) -> int:
        """Of all texts."""
        return sum(map(len, self.texts)) + sum(map(len, self.pairs or ()))

    @property
    def headers(self) -> dict[str, str]:
        """What an answer's headers say of it; times in milliseconds."""
        total = time.monotonic() - self.begun
        return {
            "x-compute-characters": str(self.characters),
            "x-compute-tokens": str(self.tokens),
            "x-truncated": str(self.truncated),
            **{
                f"x-{name}-time": str(round(1000 * seconds))
                for name, seconds in (
                    ("compute", total),
                    ("total", total),
                    ("tokenization", self.tokenization_seconds),
                    ("queue", self.queue_seconds),
                    ("inference", self.inference_seconds),
                )
            },
        }


class Service:
    """Models, their queue and what is counted of them."""

    def __init__(self, models: Models, config: ServingConfig, metrics: Metrics) -> None:
        self.models, self.config, self.metrics = models, config, metrics
        on_cpu = default_device().type == "cpu"
        self.batcher = Batcher(
            batch_tokens=min(config.max_batch_tokens, LARGEST_ON_CPU) if on_cpu else config.max_batch_tokens,
            queue_tokens=config.max_queue_tokens,
            longest_wait=config.longest_wait,
            watcher=metrics,
            cores=cores() if on_cpu else 1,
        )
        self._tokens_per_character = 0.25  # until texts have come
        self._tokenizers = ThreadPoolExecutor(config.tokenization_workers, thread_name_prefix="tokenizer")
        self.explainers = ThreadPoolExecutor(EXPLAINERS, thread_name_prefix="explainer")
        """Each waits for the batches of one explanation, so that nothing else lacks a thread meanwhile."""

    async def predict(self, model: ServedModel, request: Request) -> Predictions:
        """What the output layers of a model say of the texts of a request. Raises Refused if it cannot be told."""
        model.require_outputs()
        return together((await self._run(model, model.classify, request)).results)

    async def embed(self, model: ServedModel, request: Request, *, normalize: bool, size: int | None) -> np.ndarray:
        """The vectors of the texts of a request, their first `size` features: (texts, features) float32."""
        width = model.engine.config.encoder.hidden_size
        if size is not None and not 1 <= size <= width:
            raise Invalid(f"dimensions must be from 1 to {width}.")
        vectors = np.stack((await self._run(model, model.embed, request)).results)[:, :size]
        if not normalize:
            return vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny)

    def refuse_if_full(self) -> None:
        """Raises Overloaded if a text that came now would not be computed before its deadline."""
        self.batcher.refuse_if_full(ends=time.monotonic() + self.config.deadline)

    async def tokenize(self, model: ServedModel, request: Request, *, special: bool) -> list[list[dict[str, Any]]]:
        """All tokens of the texts of a request, as Text Embeddings Inference writes them. Raises Refused."""
        self.require_size(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizers, tokenized, model, request.texts, special)

    async def encode(self, model: ServedModel, request: Request) -> list[Encoding]:
        """The texts of a request as tokens, off the event loop. Raises Refused if they cannot be read."""
        begun = time.monotonic()
        self.require_size(request)
        loop = asyncio.get_running_loop()
        try:
            encodings = await loop.run_in_executor(self._tokenizers, encoded, model, request)
        except InputError as error:
            raise Invalid(str(error)) from None
        request.tokenization_seconds = time.monotonic() - begun
        request.tokens = sum(map(len, encodings))
        if not any(encoding.dropped for encoding in encodings):
            found = request.tokens / max(1, request.characters)
            self._tokens_per_character += (found - self._tokens_per_character) / REMEMBERED
        request.truncated = sum(encoding.dropped > 0 for encoding in encodings)
        allowed = self.config.auto_truncate if request.truncate is None else request.truncate
        if request.truncated and not allowed:
            most = model.engine.config.longest_text
            raise Invalid(f"`inputs` must have at most {most} tokens; {request.truncated} have more.")
        return encodings

    async def _run(self, model: ServedModel, compute: Compute, request: Request) -> Computed:
        ends = request.begun + self.config.deadline
        self.metrics.requests.labels(request.method).inc()
        self.batcher.refuse_if_full(ends=ends)
        with self.batcher.expecting(self.tokens_about(model, request)):
            encodings = await self.encode(model, request)
        for encoding in encodings:
            self.metrics.input_length.observe(len(encoding))
        computed = await self.batcher.run(compute, encodings, ends)
        request.queue_seconds, request.inference_seconds = computed.queue_seconds, computed.inference_seconds
        self._count(request)
        return computed

    def _count(self, request: Request) -> None:
        metrics = self.metrics
        metrics.successes.labels(request.method).inc()
        metrics.truncated.inc(request.truncated)
        metrics.duration.observe(time.monotonic() - request.begun)
        metrics.tokenization.observe(request.tokenization_seconds)
        metrics.queue.observe(request.queue_seconds)
        metrics.inference.observe(request.inference_seconds)

    def tokens_about(self, model: ServedModel, request: Request) -> int:
        """How many tokens a request will have, from its characters and what the ones before had."""
        most = model.engine.config.longest_text * len(request.texts)
        return min(most, round(self._tokens_per_character * request.characters))

    def require_size(self, request: Request) -> None:
        """Raises Refused for a request without texts, with too many, or with one that is too long."""
        if not request.texts:
            raise Empty("`inputs` cannot be empty.")
        if len(request.texts) > self.config.max_client_batch_size:
            raise Invalid(
                f"batch size {len(request.texts)} > maximum allowed batch size {self.config.max_client_batch_size}; "
                f"send several requests."
            )
        for text in (*request.texts, *(request.pairs or ())):
            if not text:
                raise Empty("`inputs` cannot be empty; there is a text without a character.")
            if len(text) > self.config.max_characters:
                raise Invalid(f"A text has {len(text):,} characters; send at most {self.config.max_characters:,}.")

    @property
    def healthy(self) -> bool:
        """Whether it answers."""
        return self.batcher.alive

    async def start(self) -> None:
        """Begin to answer."""
        self.batcher.start()

    async def stop(self) -> None:
        """End the threads; what still waits is refused."""
        await self.batcher.stop()
        self._tokenizers.shutdown(wait=True)
        self.explainers.shutdown(wait=True)


def encoded(model: ServedModel, request: Request) -> list[Encoding]:
    """The texts of a request as a model reads them."""
    engine = model.engine
    selection: Selection | None = Tail() if request.direction.lower() == "left" else None
    if any(task.output.reads == "tokens" for task in engine.tasks):
        selection = HEAD  # words are labelled from the first on
    pairs = None if request.pairs is None else as_read(model, request.pairs)
    return engine.encode(as_read(model, request.texts), pairs, selection=selection)


def tokenized(model: ServedModel, texts: Sequence[str], special: bool) -> list[list[dict[str, Any]]]:
    """The tokens of each text, with the characters that each is made of."""
    tokenizer = model.engine.tokenizer
    first, last = (
        [{"id": token, "text": spelled, "special": True, "start": None, "stop": None}] * special
        for token, spelled in zip(
            (tokenizer.cls_id, tokenizer.sep_id), tokenizer.tokens([tokenizer.cls_id, tokenizer.sep_id]), strict=True
        )
    )
    found: list[list[dict[str, Any]]] = []
    for text, encoding in zip(texts, tokenizer.tokenize(texts, with_offsets=True), strict=True):
        tokens = [
            {"id": token, "text": text[start:stop], "special": False, "start": start, "stop": stop}
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        found.append([*first, *tokens, *last])
    return found


def as_read(model: ServedModel, texts: Sequence[str]) -> list[Text]:
    """Texts, or the words of each where a model reads words."""
    return [text_cell({TEXT: text}, TEXT, model.engine.pretokenized, "inputs") for text in texts]
