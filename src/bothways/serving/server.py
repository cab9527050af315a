"""uvicorn's server, which ends in such an order that no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from bothways.serving.app import Application
from bothways.serving.config import ServingConfig

KEEP_ALIVE = 65
"""Seconds that a connection may be idle; longer than the minute of usual load balancers."""
LAST_WORDS = 0.5
"""Seconds in which open connections may still ask after the end has begun; the answer tells them to close."""


class Server(uvicorn.Server):
    """An application on a socket until SIGTERM or SIGINT.

    uvicorn closes connections that are idle at once, though the next request may be on its way; here they have a moment
    to hear of it. And it raises the signal once more at the end, as which the process would seem to have failed.
    """

    def __init__(self, application: Application, config: ServingConfig) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=max(1, round(config.drain)),
                backlog=2048,
            )
        )
        self.gate = application.gate

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new connections; the last answers on those that are open; then the end."""
        self.gate.draining = True
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await asyncio.sleep(LAST_WORDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the server, within the block, and nothing else."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before: dict[Any, Any] = {sign: signal.signal(sign, self.handle_exit) for sign in signals}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)
