"""What is needed next, made by other threads while what was made before is used: batches, predictions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Step = TypeVar("Step")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Step], Made], steps: Iterable[Step], *, makers: int = 1, ahead: int = 1
) -> Iterator[Made]:
    """What `make` makes of each step, in order, the next ones made by other threads while one is used."""
    with ThreadPoolExecutor(makers) as pool:
        left = iter(steps)
        coming = deque(pool.submit(make, step) for step in islice(left, ahead))
        while coming:
            made = coming.popleft().result()
            coming.extend(pool.submit(make, step) for step in islice(left, 1))
            yield made
