"""What the page asks besides answers: which words count, what a hidden word may be, what happens inside the encoder."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.explanation.explain import explain
from bothways.explanation.inside import look_inside
from bothways.explanation.leave_out import LeaveOneOut
from bothways.explanation.masked_words import MOST_TOKENS, predict_masked
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.serving.batcher import Batcher
from bothways.serving.models import ServedModel, together
from bothways.serving.refusals import BackendFailed, Invalid
from bothways.serving.service import Request, Service, as_read
from bothways.tokenizer import Encoding

Found = TypeVar("Found")


class QueuedEngine(Engine):
    """A model's engine whose runs wait in the queue with everybody's texts; for threads other than the event loop's."""

    def __init__(self, model: ServedModel, batcher: Batcher, ends: float, loop: asyncio.AbstractEventLoop) -> None:
        vars(self).update(vars(model.engine))  # all that it has, ready as it is
        self._model, self._batcher, self._ends, self._loop = model, batcher, ends, loop
        self._waits: concurrent.futures.Future | None = None

    def run(self, encodings: Sequence[Encoding]) -> Predictions:
        """See `Engine.run`. Raises Refused."""
        waiting = self._batcher.run(self._model.classify, encodings, self._ends)
        self._waits = asyncio.run_coroutine_threadsafe(waiting, self._loop)
        return together(self._waits.result().results)

    def leave(self) -> None:
        """Wait no longer."""
        if self._waits is not None:
            self._waits.cancel()


async def contributions(
    service: Service, model: ServedModel, request: Request, output: str | None, label: str | None
) -> dict[str, Any]:
    """What each word of a text, or of a pair, contributes, by leaving out each in turn. Raises Refused."""
    model.require_outputs()
    require_one(service, request)
    ends = request.begun + service.config.deadline
    service.batcher.refuse_if_full(ends=ends)
    engine = QueuedEngine(model, service.batcher, ends, asyncio.get_running_loop())
    (text,) = as_read(model, request.texts)
    pair = None if request.pairs is None else as_read(model, request.pairs)[0]
    method = LeaveOneOut(engine, most_tokens=service.config.max_batch_tokens)

    def found() -> dict[str, Any]:
        return explain(method, text, pair, output=output, label=label).as_json()

    with as_refusals():
        try:
            return await asyncio.get_running_loop().run_in_executor(service.explainers, found)
        finally:
            engine.leave()


async def masked_words(service: Service, model: ServedModel, request: Request, top: int) -> list[dict[str, Any]]:
    """What each [MASK] in a text may be. Raises Refused."""
    require_one(service, request)
    tokenizer, (text,) = model.engine.tokenizer, request.texts
    most = min(MOST_TOKENS, model.engine.config.longest)

    def guesses(bert: Bert) -> list[dict[str, Any]]:
        return [guess.as_json() for guess in predict_masked(bert, tokenizer, text, top)]

    with as_refusals():
        require_masked_words(model)
        encoding = await asyncio.to_thread(tokenizer.encode, text, max_length=most)
        if tokenizer.mask_id not in encoding.token_ids:
            raise Invalid("There is no [MASK] among the tokens that are read; put one in the place of a word.")
        bert = await asyncio.to_thread(model.original)
        return await in_turn(service, request, encoding, partial(guesses, bert))


async def inside(service: Service, model: ServedModel, request: Request) -> dict[str, Any]:
    """Attention of every layer and head, and the parts of each embedding. Raises Refused."""
    require_one(service, request)
    (encoding,) = await service.encode(model, request)
    (text,) = as_read(model, request.texts)
    pair = None if request.pairs is None else as_read(model, request.pairs)[0]

    def looked(bert: Bert) -> dict[str, Any]:
        return look_inside(bert, model.engine.tokenizer, text, pair).as_json()

    with as_refusals():
        bert = await asyncio.to_thread(model.original)
        return await in_turn(service, request, encoding, partial(looked, bert))


async def in_turn(service: Service, request: Request, encoding: Encoding, compute: Callable[[], Found]) -> Found:
    """What is computed when it is the turn of an encoding of about as much work."""

    def alone(encodings: Sequence[Encoding]) -> list[Found]:
        return [compute()]

    computed = await service.batcher.run(alone, [encoding], request.begun + service.config.deadline)
    (found,) = computed.results
    return found


def require_one(service: Service, request: Request) -> None:
    """Raises Refused unless it is one text, or one pair, of a size that is taken."""
    service.require_size(request)
    if len(request.texts) != 1:
        raise Invalid("One text, or one pair, at a time; send several requests.")


def require_masked_words(model: ServedModel) -> None:
    """Raises BackendFailed for a model that was not saved with its output layer for masked words."""
    if not model.guesses_words:
        raise BackendFailed(f"The model {model.name!r} guesses no words; ask an encoder that was pre-trained.")


@contextlib.contextmanager
def as_refusals() -> Iterator[None]:
    """A mistake of whoever asked is told in its sentence."""
    try:
        yield
    except InputError as error:
        raise Invalid(str(error)) from None
