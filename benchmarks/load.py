"""A client of many connections in one event loop, light enough not to take the server's cores: HTTP/1.1 by hand."""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """What became of the requests."""

    texts: list[int] = field(default_factory=list)
    """By request: which text was asked for."""
    statuses: list[int] = field(default_factory=list)
    """0: the connection broke."""
    seconds: list[float] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    wall: float = 0.0

    def add(self, text: int, status: int, seconds: float, answer: object) -> None:
        """One request is over."""
        self.texts.append(text)
        self.statuses.append(status)
        self.seconds.append(seconds)
        self.answers.append(answer)


class Connection:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, text: str) -> tuple[int, object]:
        """POST /predict of one text → status and answer; (0, None) if the connection breaks."""
        body = json.dumps({"inputs": text}).encode()
        head = "POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        try:
            if self.reader is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(head.encode() + body)
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            content = await self.reader.readexactly(length)
            return int(lines[0].split()[1]), json.loads(content)
        except (OSError, asyncio.IncompleteReadError):
            self.reader = None
            return 0, None


async def closed(port: int, texts: Sequence[str], clients: int, seconds: float) -> Outcome:
    """Clients that each ask again as soon as they are answered."""
    outcome, begun = Outcome(), time.perf_counter()

    async def client(number: int) -> None:
        connection, i = Connection(port), number
        while time.perf_counter() - begun < seconds:
            asked = time.perf_counter()
            status, answer = await connection.ask(texts[i % len(texts)])
            outcome.add(i % len(texts), status, time.perf_counter() - asked, answer)
            i += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.wall = time.perf_counter() - begun
    return outcome


async def open_(port: int, texts: Sequence[str], rate: float, seconds: float) -> Outcome:
    """Requests that come at a rate, whatever becomes of the ones before."""
    outcome, begun = Outcome(), time.perf_counter()
    idle: list[Connection] = []

    async def one(i: int) -> None:
        connection = idle.pop() if idle else Connection(port)
        asked = time.perf_counter()
        status, answer = await connection.ask(texts[i % len(texts)])
        outcome.add(i % len(texts), status, time.perf_counter() - asked, answer)
        idle.append(connection)

    tasks = []
    for i in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begun + i / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(i)))
    await asyncio.gather(*tasks)
    outcome.wall = time.perf_counter() - begun
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of a server on this machine that answers POST /predict")
    parser.add_argument("texts", help="file with a text a line")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    texts = [line for line in Path(given.texts).read_text("utf-8").splitlines() if line.strip()]
    outcome = asyncio.run(closed(given.port, texts, given.clients, given.seconds))
    answered = outcome.statuses.count(200)
    slowest = max(outcome.seconds)
    print(
        f"{answered / outcome.wall:.1f} answers/s of {len(outcome.statuses)} requests, the slowest in {slowest:.2f} s"
    )


if __name__ == "__main__":
    main()
