"""Starting and ending a server: one process, or several that share a port."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from bothways.errors import InputError
from bothways.serving.config import KEY_VARIABLE, ServingConfig

LOCAL = ("127.0.0.1", "localhost", "::1")
BACKLOG = 2048
"""Connections that may wait to be taken."""


def serve(sources: Sequence[str], config: ServingConfig) -> None:
    """Serve models until SIGTERM or SIGINT; requests in work are answered before it ends.

    Raises InputError for a model, a key or a port that cannot be used.
    """
    require_extra()
    key = key_of(config)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    if config.host not in LOCAL and key is None:
        print(
            f"Anybody who reaches this machine may ask; --api-key-file or {KEY_VARIABLE} sets a key.", file=sys.stderr
        )
    from bothways.serving.app import Application
    from bothways.serving.models import Models, Source
    from bothways.serving.server import Server
    from bothways.serving.workers import Workers

    models = Models([Source.parse(source) for source in sources])  # a mistake is told before there are workers
    with listening(config) as (sock, address):
        print(f"Serving {', '.join(models.names)} on {address}", file=sys.stderr, flush=True)
        if config.workers > 1:
            del models
            Workers(sources, config, key, sock).run()
        else:
            Server(Application(models, config, key=key), config).run(sockets=[sock])


def require_extra() -> None:
    """Raises InputError if what serving needs is not installed."""
    try:
        import fastapi
        import prometheus_client
        import uvicorn
    except ImportError:
        raise InputError("Serving needs more packages; install them with pip install 'bothways[serve]'.") from None
    del fastapi, prometheus_client, uvicorn


def key_of(config: ServingConfig) -> str | None:
    """The key that clients give, from the file or the environment; None if there is none.

    Raises InputError if the file cannot be read or a key is not of printable ASCII.
    """
    key, place = os.environ.get(KEY_VARIABLE), KEY_VARIABLE
    if config.api_key_file is not None:
        place = str(config.api_key_file)
        try:
            key = (config.api_key_file.read_text("utf-8").splitlines() or [""])[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{place}: the key cannot be read ({error}).") from None
    if key is None:
        return None
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"{place}: the key must be of printable ASCII characters, and not empty.")
    return key


@contextlib.contextmanager
def listening(config: ServingConfig) -> Iterator[tuple[Any, str]]:
    """A socket that listens, and its address. Raises InputError if the port cannot be had."""
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With the protocol named, since asyncio sets TCP_NODELAY only then: without it every answer takes 40 ms longer.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((config.host, config.port))
            sock.listen(BACKLOG)  # whoever comes before the models are ready waits, and is not turned away
        except OSError as error:
            raise InputError(
                f"{config.host}, port {config.port}: cannot listen there ({error.strerror}); name another --port."
            ) from None
        host = f"[{config.host}]" if family == socket.AF_INET6 else config.host
        yield sock, f"http://{host}:{sock.getsockname()[1]}"
    finally:
        sock.close()
