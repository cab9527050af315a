"""The texts of all clients, packed by tokens into one forward pass after another.

While a batch is computed the next one gathers, so under load batches are full without a text having to wait, and a
text that comes alone is computed at once, by all cores. Between the two, when several clients ask again as soon as they
are answered, the first would be computed alone and all others wait for it; so a batch waits a moment for as many texts
as the ones before it had. On a CPU two batches are computed side by side, half of the cores each: while the answers of
the one are sent and its clients ask again, the other keeps the cores busy. All bookkeeping is on the event loop, the
computing in threads of its own; so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bothways.hardware import use_threads
from bothways.serving.refusals import BackendFailed, Overloaded
from bothways.tokenizer import Encoding

Compute = Callable[[Sequence[Encoding]], Sequence[Any]]
"""Encodings → what a model says of each, in order."""
MEMORY = 0.8
"""How much of what was before is remembered of the number of texts after a batch."""
WAITED_FOR = 0.9
"""A batch waits until there is so much of what the ones before it had."""
RATE_MEMORY = 0.95
"""How much is remembered of how fast batches were: if that changed with each, so would how much the queue takes, and
hundreds of texts would be taken at once."""
PART_OF_DEADLINE = 0.5
"""A job is taken if what is before it and itself fill no more of the time it has, as far as is known: the machine may
have other work tomorrow, and an answer that is refused at its deadline was computed for nothing."""
PACED_FROM, MOST_ON_THE_WAY = 0.5, 0.05
"""Where the queue is full to this part, no more texts are tokenized at a time than are computed in so many seconds:
else all that arrive when there is room again are taken, and those behind them hear late that there is none."""
SHARE_WAITED = 0.1
"""It waits no longer than this share of the time that the last one took."""

log = logging.getLogger("bothways.serving")


class Watcher(Protocol):
    """What is told of the queue and its batches."""

    def queued(self, texts: int) -> None:
        """So many texts wait."""

    def batch(self, texts: int, tokens: int) -> None:
        """A batch begins."""


@dataclass(eq=False)
class Job:
    """The texts of one request."""

    compute: Compute
    encodings: Sequence[Encoding]
    ends: float
    """When its answer is of no use any more; seconds of `time.monotonic`."""
    done: asyncio.Future[None]
    results: list[Any]
    left: int
    """How many of its texts are not computed yet."""
    begun: float = field(default_factory=time.monotonic)
    started: float | None = None
    """When the first of its texts left the queue."""

    @property
    def over(self) -> bool:
        """Whether its client has left or has its answer."""
        return self.done.done()

    def fail(self, error: Exception) -> None:
        """End it without an answer."""
        if not self.over:
            self.done.set_exception(error)


@dataclass(frozen=True)
class Computed:
    """What became of a job."""

    results: list[Any]
    queue_seconds: float
    inference_seconds: float


class Batcher:
    """One queue for all models: they share the machine."""

    def __init__(
        self, *, batch_tokens: int, queue_tokens: int, longest_wait: float, watcher: Watcher, cores: int = 1
    ) -> None:
        """`batch_tokens`, `queue_tokens`: most tokens in a batch, and that wait; `longest_wait`: of a batch for texts,
        in seconds; `cores`: those that a CPU shares out over batches."""
        self.batch_tokens, self.queue_tokens, self.longest_wait = batch_tokens, queue_tokens, longest_wait
        self.watcher = watcher
        self.side_by_side = min(2, cores)
        self.waiting_tokens = 0
        """Of texts in the queue that somebody still waits for."""
        self._expected_tokens = 0
        self._queue: deque[tuple[Job, int]] = deque()
        self._waiting_texts = 0
        self._computing, self._computing_tokens = 0, 0
        self._arrived = asyncio.Event()
        self._tokens, self._seconds = 0.0, 0.0  # of what was computed, the last batches above all
        self._counted_until = 0.0
        self._usual_texts, self._last_seconds = 1.0, 0.0
        self._alone = ThreadPoolExecutor(1, "engine")
        """For a batch with no other beside it."""
        share = partial(use_threads, -(-cores // 2)) if self.side_by_side > 1 else None
        self._beside = ThreadPoolExecutor(self.side_by_side, "engine", initializer=share)
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to compute; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(), name="batcher") for _ in range(self.side_by_side)]

    async def stop(self) -> None:
        """End; what still waits is refused."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for job, _ in self._queue:
            job.fail(Overloaded("The server stops; ask again when it is back."))
        self._queue.clear()
        self._alone.shutdown(wait=True)
        self._beside.shutdown(wait=True)

    @property
    def alive(self) -> bool:
        """Whether it computes."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    def refuse_if_full(self, tokens: int = 0, ends: float | None = None, *, tokenized: bool = False) -> None:
        """Raises Overloaded if so many more tokens would not fit, or would not be computed by `ends`. What is tokenized
        comes before all that is on its way."""
        expected = 0 if tokenized else self._expected_tokens
        before = self.waiting_tokens + expected
        if not before + self._computing_tokens:
            return  # whatever was slow before may be over, and only a batch can tell
        wait = self._seconds_for(before + self._computing_tokens)
        if before and before + tokens > self.queue_tokens:
            raise Overloaded("More texts wait than the server takes; try again later.", wait)
        left = math.inf if ends is None else PART_OF_DEADLINE * (ends - time.monotonic())
        if wait + self._seconds_for(tokens) > left:
            raise Overloaded("The answer would take longer than its deadline; try again later.", wait)
        full = before > PACED_FROM * self.queue_tokens or wait > PACED_FROM * left
        if full and self._seconds_for(expected) > MOST_ON_THE_WAY:
            raise Overloaded("More texts arrive than are computed; try again later.", wait)

    @contextmanager
    def expecting(self, tokens: int) -> Iterator[None]:
        """About so many tokens are on their way into the queue: whoever comes meanwhile is behind them. Else all that
        arrive while texts are tokenized would find the queue short, and be refused late."""
        self._expected_tokens += tokens
        try:
            yield
        finally:
            self._expected_tokens -= tokens

    async def run(self, compute: Compute, encodings: Sequence[Encoding], ends: float) -> Computed:
        """What `compute` says of each encoding; it must not depend on the others. Cancelled, it leaves the queue.

        Raises Overloaded if that is too much or takes longer than until `ends`, BackendFailed if it cannot be computed.
        """
        tokens = sum(map(len, encodings))
        self.refuse_if_full(tokens, ends, tokenized=True)
        done = asyncio.get_running_loop().create_future()
        job = Job(compute, encodings, ends, done, [None] * len(encodings), len(encodings))
        self._queue.extend((job, place) for place in range(len(encodings)))
        self._count(len(encodings), tokens)
        self._arrived.set()
        try:
            await asyncio.wait_for(done, ends - time.monotonic())
        except asyncio.TimeoutError:
            sentence = "There was no answer before the deadline; try again later."
            raise Overloaded(sentence, self._seconds_for(self.waiting_tokens)) from None
        finally:
            done.cancel()  # which it is not yet if whoever asked has left
            self._forget(job)
        started = job.started or time.monotonic()
        return Computed(job.results, started - job.begun, time.monotonic() - started)

    def _count(self, texts: int, tokens: int) -> None:
        self._waiting_texts += texts
        self.waiting_tokens += tokens
        self.watcher.queued(self._waiting_texts)

    def _forget(self, job: Job) -> None:
        """Take out of the queue what is left in it of a job, so that others have its place."""
        if not job.left:
            return
        left = [(place, len(job.encodings[place])) for other, place in self._queue if other is job]
        if left:
            self._queue = deque(entry for entry in self._queue if entry[0] is not job)
            self._count(-len(left), -sum(length for _, length in left))

    def _seconds_for(self, tokens: int) -> float:
        """How long so many tokens take, as far as it is known."""
        return tokens * self._seconds / self._tokens if self._tokens else 0.0

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            if batch := self._take():
                await self._compute(batch)

    async def _gather(self) -> None:
        """Wait a moment for as many texts as are usual."""
        longest = min(self.longest_wait, SHARE_WAITED * self._last_seconds)
        ends = time.monotonic() + longest
        while len(self._queue) < WAITED_FOR * self._usual_texts and self.waiting_tokens < self.batch_tokens:
            if (left := ends - time.monotonic()) <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _take(self) -> list[tuple[Job, int]]:
        """The next texts, of one model, that fit into a batch: in the order in which they came. Where several batches
        could begin, each has its share."""
        most = min(self.batch_tokens, math.ceil(self.waiting_tokens / (self.side_by_side - self._computing)))
        batch: list[tuple[Job, int]] = []
        kept: list[tuple[Job, int]] = []
        tokens, now = 0, time.monotonic()
        while self._queue:
            job, place = self._queue.popleft()
            length = len(job.encodings[place])
            if job.over:
                self._count(-1, -length)
            elif batch and job.compute != batch[0][0].compute:
                kept.append((job, place))
            elif batch and tokens + length > most:
                kept.append((job, place))
                break
            else:
                batch.append((job, place))
                tokens += length
                job.started = job.started or now
                self._count(-1, -length)
        self._queue.extendleft(reversed(kept))
        return batch

    async def _compute(self, batch: list[tuple[Job, int]]) -> None:
        """Compute a batch; if that fails, each of its jobs alone, so that only the one fails that cannot be done."""
        tokens = sum(len(job.encodings[place]) for job, place in batch)
        self.watcher.batch(len(batch), tokens)
        alone, begun = not self._computing and not self._queue, time.monotonic()
        if not self._computing:
            self._counted_until = begun
        self._computing, self._computing_tokens = self._computing + 1, self._computing_tokens + tokens
        thread = self._alone if alone else self._beside
        try:
            await self._in_thread(batch, thread)
        except Exception:
            for job in dict.fromkeys(job for job, _ in batch):
                try:
                    await self._in_thread([entry for entry in batch if entry[0] is job], thread)
                except Exception as error:
                    log.error("A batch could not be computed: %s.", type(error).__name__)
                    job.fail(BackendFailed("The model could not answer this."))
        self._computing, self._computing_tokens = self._computing - 1, self._computing_tokens - tokens
        now = time.monotonic()
        self._last_seconds = now - begun
        self._tokens = RATE_MEMORY * self._tokens + tokens
        self._seconds = RATE_MEMORY * self._seconds + now - self._counted_until  # each second once
        self._counted_until = now
        self._usual_texts = MEMORY * self._usual_texts + (1 - MEMORY) * len(batch)

    async def _in_thread(self, batch: list[tuple[Job, int]], thread: ThreadPoolExecutor) -> None:
        encodings = [job.encodings[place] for job, place in batch]
        results = await asyncio.get_running_loop().run_in_executor(thread, batch[0][0].compute, encodings)
        for (job, place), result in zip(batch, results, strict=True):
            job.results[place] = result
            job.left -= 1
            if not job.left and not job.over:
                job.done.set_result(None)
