"""What every request passes before a route sees it: the key, the number at a time, its size, the time it may take.

It is an ASGI application around another. It reads the body whole and watches the connection meanwhile, so that work for
a client that has left is cancelled. What the queue has no room for is refused here, before its JSON is read: under
three times the load that a server can bear, most of what arrives is refused, and refusing has to be cheap.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bothways.serving.config import ServingConfig
from bothways.serving.metrics import Metrics
from bothways.serving.refusals import Forbidden, Overloaded, Refused, TooLarge, TooSlow, Unauthorized, Unhealthy

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/ping", "/v2/health/live", "/v2/health/ready"})
"""Paths that whoever watches the server asks for without a key."""
PAGE, PAGE_FILES = "/", "/page/"
"""The page holds nothing of the models; it asks for the key itself."""
READY = frozenset({"/health", "/ping", "/v2/health/ready"})
"""Those that say whether to send requests here."""
RELOAD = "/reload"
NOT_READ = "not_read"
"""How a request counts that is refused before it is known whether it has one text or several."""
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]
"""Headers of every answer that has none of its own: a browser is to run nothing."""


class Disconnected(Exception):
    """Whoever asked has left."""


class Gate:
    """See above."""

    def __init__(
        self,
        inner: Application,
        config: ServingConfig,
        metrics: Metrics,
        key: str | None,
        queues: Callable[[Message], bool],
        refuse_if_full: Callable[[], None],
    ) -> None:
        """`queues`: whether a request (an ASGI scope) is for a route whose texts wait in the queue. `refuse_if_full`
        raises Overloaded if a text that came now would not be computed in time."""
        self.inner, self.config, self.metrics = inner, config, metrics
        self.queues, self.refuse_if_full = queues, refuse_if_full
        self.bearer = None if key is None else f"Bearer {key}".encode()
        self.in_work = 0
        self.draining = False
        """Whether the server is about to end, so that connections should be closed after the next answer."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                last = [(b"connection", b"close")] * self.draining
                own = list(message.get("headers", ()))
                names = {name for name, _ in own}
                message["headers"] = [*own, *(pair for pair in SECURITY if pair[0] not in names), *last]
            await send(message)

        try:
            self._require_key(scope)
            if self.draining and scope["path"] in READY:
                raise Unhealthy("The server is about to stop.")
            if scope["method"] == "POST":
                await self._post(scope, receive, send_safely)
            else:
                await self.inner(scope, receive, send_safely)
        except Disconnected:
            self.metrics.failures.labels("disconnected").inc()
        except Refused as refused:
            self.metrics.failures.labels(refused.error_type.lower()).inc()
            await answer(send_safely, refused)

    def _require_key(self, scope: Message) -> None:
        if scope["path"] == RELOAD and self.bearer is None:
            raise Forbidden("Models are reloaded for whoever has the key, and this server was started without one.")
        if self.bearer is None or scope["path"] in OPEN or of_the_page(scope):
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self.bearer):
            raise Unauthorized("The key is missing or wrong; send it as: authorization: Bearer KEY.")

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        queues = self.queues(scope)
        try:
            self._refuse_if_busy()
            body = await self._body_in_time(scope, receive)
            self._refuse_if_busy()
            if queues:
                self.refuse_if_full()
        except Overloaded:
            if queues:  # counts as what is refused behind the gate does
                self.metrics.requests.labels(NOT_READ).inc()
            raise
        self.in_work += 1
        try:
            await self._watched(scope, body, receive, send)
        finally:
            self.in_work -= 1

    async def _body_in_time(self, scope: Message, receive: Receive) -> bytes:
        try:
            return await asyncio.wait_for(self._body(scope, receive), self.config.body_timeout)
        except asyncio.TimeoutError:
            raise TooSlow(f"The request did not arrive within {self.config.body_timeout:g} seconds.") from None

    def _refuse_if_busy(self) -> None:
        if self.in_work >= self.config.max_concurrent_requests:
            raise Overloaded("More requests are in work than the server takes; try again later.")

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        most = self.config.max_body_bytes
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(length.isdigit() and int(length) > most for length in lengths):
            raise TooLarge(f"The request is larger than {most:,} bytes; send several.")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > most:
                raise TooLarge(f"The request is larger than {most:,} bytes; send several.")
            if not message.get("more_body", False):
                return bytes(body)

    async def _watched(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application, and cancel it if whoever asked leaves."""
        parts = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.ensure_future(receive())

        async def replay() -> Message:
            return parts.pop() if parts else await asyncio.shield(gone)

        work = asyncio.ensure_future(self.inner(scope, replay, send))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                raise Disconnected
            work.result()
        finally:
            for task in (gone, work):
                task.cancel()


def of_the_page(scope: Message) -> bool:
    """Whether a file of the page is asked for."""
    return scope["method"] == "GET" and (scope["path"] == PAGE or scope["path"].startswith(PAGE_FILES))


async def answer(send: Send, refused: Refused) -> None:
    """Send a refusal."""
    body = json.dumps(refused.body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
