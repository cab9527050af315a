"""The queue of all clients' texts: what shares a batch, what is refused, what fails alone."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
import pytest

from bothways.serving.batcher import Batcher
from bothways.serving.refusals import BackendFailed, Overloaded
from bothways.tokenizer import Encoding


class Nobody:
    """Watches nothing."""

    def queued(self, texts: int) -> None: ...

    def batch(self, texts: int, tokens: int) -> None: ...


def encoding(length: int) -> Encoding:
    return Encoding(np.zeros(length, np.int32), np.zeros(length, np.int8))


def batcher(**settings: float) -> Batcher:
    return Batcher(
        **{"batch_tokens": 100, "queue_tokens": 1000, "longest_wait": 0.0, **settings},  # type: ignore[arg-type]
        watcher=Nobody(),
    )


@contextlib.asynccontextmanager
async def working(**settings: float):
    queue = batcher(**settings)
    queue.start()
    try:
        yield queue
    finally:
        await queue.stop()


def test_texts_of_several_requests_share_a_batch_within_its_tokens() -> None:
    batches = []

    def compute(encodings: list[Encoding]) -> list[int]:
        batches.append([len(each) for each in encodings])
        time.sleep(0.02)
        return [len(each) for each in encodings]

    async def ask() -> None:
        async with working() as queue:
            asked = [queue.run(compute, [encoding(30), encoding(n)], time.monotonic() + 5) for n in range(1, 8)]
            for n, computed in enumerate(await asyncio.gather(*asked), 1):
                assert computed.results == [30, n]

    asyncio.run(ask())
    assert all(sum(batch) <= 100 for batch in batches)
    assert max(map(len, batches)) > 4
    assert sorted(length for batch in batches for length in batch) == sorted([30] * 7 + list(range(1, 8)))


def test_models_do_not_share_a_batch_and_none_is_passed_over() -> None:
    order = []

    def model(name: str):
        def compute(encodings: list[Encoding]) -> list[str]:
            order.append(name * len(encodings))
            return [name] * len(encodings)

        return compute

    async def ask() -> None:
        one, other = model("a"), model("b")
        async with working() as queue:
            asked = [queue.run(compute, [encoding(1)], time.monotonic() + 5) for compute in (one, other, one, other)]
            assert [computed.results for computed in await asyncio.gather(*asked)] == [["a"], ["b"], ["a"], ["b"]]

    asyncio.run(ask())
    assert order == ["aa", "bb"]


def test_what_cannot_be_computed_fails_alone() -> None:
    def compute(encodings: list[Encoding]) -> list[int]:
        if any(len(each) == 13 for each in encodings):
            raise RuntimeError
        return [len(each) for each in encodings]

    async def ask() -> None:
        async with working() as queue:
            asked = [queue.run(compute, [encoding(n)], time.monotonic() + 5) for n in (12, 13, 14)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(found[1], BackendFailed)
            assert [each.results for each in (found[0], found[2])] == [[12], [14]]

    asyncio.run(ask())


def test_a_full_queue_and_a_deadline_that_cannot_be_kept_are_refused_at_once() -> None:
    def compute(encodings: list[Encoding]) -> list[int]:
        time.sleep(0.4)
        return [0] * len(encodings)

    async def ask() -> None:
        async with working(queue_tokens=150) as queue:
            await queue.run(compute, [encoding(100)], time.monotonic() + 5)  # 0.4 s for 100 tokens, as it now knows
            asked = []
            for _ in range(2):  # one is computed, one waits
                asked.append(asyncio.ensure_future(queue.run(compute, [encoding(100)], time.monotonic() + 5)))
                await asyncio.sleep(0.02)
            begun = time.monotonic()
            with pytest.raises(Overloaded, match="More texts wait"):
                await queue.run(compute, [encoding(100)], time.monotonic() + 5)
            with pytest.raises(Overloaded, match="longer than its deadline"):
                await queue.run(compute, [encoding(20)], time.monotonic() + 0.05)
            assert time.monotonic() - begun < 0.3
            await asyncio.gather(*asked)

    asyncio.run(ask())


def test_texts_that_are_on_their_way_count_for_those_who_come_after() -> None:
    queue = batcher(queue_tokens=100)
    with queue.expecting(80):
        queue.refuse_if_full(20)
        with pytest.raises(Overloaded):
            queue.refuse_if_full(21)
    queue.refuse_if_full(100)


def test_a_batch_that_took_long_once_does_not_refuse_all_that_come_after() -> None:
    """As where the machine has slept: only another batch can tell that it is awake again."""
    slow = [0.3]

    def compute(encodings: list[Encoding]) -> list[int]:
        time.sleep(slow.pop() if slow else 0)
        return [0] * len(encodings)

    async def ask() -> None:
        async with working() as queue:
            await queue.run(compute, [encoding(1)], time.monotonic() + 5)
            for _ in range(3):
                await queue.run(compute, [encoding(100)], time.monotonic() + 1)

    asyncio.run(ask())


def test_two_batches_are_computed_side_by_side_where_there_are_cores() -> None:
    at_work, most, sizes = [0], [0], []

    def compute(encodings: list[Encoding]) -> list[int]:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        sizes.append(len(encodings))
        time.sleep(0.05)
        at_work[0] -= 1
        return [0] * len(encodings)

    async def ask(cores: int) -> None:
        async with working(cores=cores) as queue:
            await asyncio.gather(*(queue.run(compute, [encoding(1)], time.monotonic() + 5) for _ in range(8)))

    asyncio.run(ask(cores=2))
    assert (most, sizes) == ([2], [4, 4])
    at_work[0], most[0] = 0, 0
    asyncio.run(ask(cores=1))
    assert most == [1]


def test_the_rate_is_that_of_both_batches_together() -> None:
    def compute(encodings: list[Encoding]) -> list[int]:
        time.sleep(0.4 if len(encodings[0]) == 90 else 0.1)
        return [0] * len(encodings)

    async def ask() -> None:
        async with working(cores=2) as queue:
            long = asyncio.ensure_future(queue.run(compute, [encoding(90)], time.monotonic() + 5))
            await asyncio.sleep(0.2)
            await queue.run(compute, [encoding(10)], time.monotonic() + 5)
            await long
            assert 0.35 < queue._seconds_for(100) < 0.6  # 0.4 s, whichever ended first

    asyncio.run(ask())


def test_a_queue_that_is_half_full_takes_no_more_at_a_time_than_is_computed() -> None:
    def compute(encodings: list[Encoding]) -> list[int]:
        time.sleep(0.1)
        return [0] * len(encodings)

    async def ask() -> None:
        async with working(queue_tokens=100, batch_tokens=40) as queue:
            await queue.run(compute, [encoding(40)], time.monotonic() + 5)  # so 0.1 s for 40 tokens
            asked = [asyncio.ensure_future(queue.run(compute, [encoding(40)], time.monotonic() + 5)) for _ in range(2)]
            await asyncio.sleep(0.02)  # one is computed, one waits
            with queue.expecting(15):
                queue.refuse_if_full(15)
                with queue.expecting(10), pytest.raises(Overloaded, match="More texts arrive"):
                    queue.refuse_if_full(15)
            await asyncio.gather(*asked)

    asyncio.run(ask())


def test_what_is_not_computed_by_its_deadline_is_refused_then() -> None:
    def compute(encodings: list[Encoding]) -> list[int]:
        time.sleep(1.0)
        return [0] * len(encodings)

    async def ask() -> None:
        async with working() as queue:
            begun = time.monotonic()
            with pytest.raises(Overloaded, match="before the deadline"):
                await queue.run(compute, [encoding(1)], time.monotonic() + 0.1)
            assert time.monotonic() - begun < 0.9

    asyncio.run(ask())


def test_texts_of_many_clients_gather() -> None:
    batches = []

    def compute(encodings: list[Encoding]) -> list[int]:
        batches.append(len(encodings))
        time.sleep(0.05)
        return [0] * len(encodings)

    async def client(queue: Batcher, number: int) -> None:
        for _ in range(6):
            await queue.run(compute, [encoding(1)], time.monotonic() + 5)
            await asyncio.sleep(0.0005 * number)  # they do not come back all at once

    async def ask() -> None:
        async with working(longest_wait=0.1) as queue:
            await asyncio.gather(*(client(queue, number) for number in range(8)))

    asyncio.run(ask())
    assert sum(batches) == 48
    assert len(batches) < 20  # 48 if none gathered
