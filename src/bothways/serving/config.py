"""The settings of a server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from bothways.checks import fits, spelled
from bothways.errors import InputError

KEY_VARIABLE = "BOTHWAYS_API_KEY"
"""Environment variable that holds the key, if no file does."""


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How models are served."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is all of this machine."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    api_key_file: Path | None = None
    """File whose first line is the key that clients give as a bearer. None: the environment variable BOTHWAYS_API_KEY;
    if there is none either, all may ask, and none may reload."""
    workers: int = 1
    """Processes that serve side by side, each with a copy of the models and its share of the cores."""
    max_concurrent_requests: int = 512
    """Requests in work at a time; what is beyond is refused at once (429)."""
    max_queue_tokens: int = 262_144
    """Tokens that wait at a time; what is beyond is refused at once (429)."""
    max_batch_tokens: int = 16_384
    """Tokens of all clients that are computed together; on a CPU no more than 2,048 are, which is no slower."""
    max_client_batch_size: int = 32
    """Texts in a request."""
    max_body_bytes: int = 2_000_000
    """Bytes in a request."""
    max_characters: int = 200_000
    """Characters in a text; a longer one is refused, since most of it would not be read."""
    auto_truncate: bool = True
    """Read as much of a longer text as the model can, and say so in x-truncated; else refuse it. A request may say
    truncate itself."""
    deadline: float = 30.0
    """Seconds within which a request is answered; one that would take longer is refused (429)."""
    body_timeout: float = 10.0
    """Seconds within which a request has arrived whole."""
    longest_wait: float = 0.005
    """Seconds that a batch waits for as many texts as the ones before it had; none if clients come one at a time."""
    drain: float = 30.0
    """Seconds that requests in work have to end after SIGTERM."""
    tokenization_workers: int = 2
    """Threads that tokenize."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            self.require(fits(value, hint), name, spelled(hint).replace("null", "None"))
        self.require(bool(self.host), "host", "an address or a name")
        self.require(0 <= self.port < 1 << 16, "port", "from 0 to 65535")
        self.require(0 <= self.longest_wait <= 1, "longest_wait", "from 0 to 1 second")
        for name in COUNTS:
            self.require(getattr(self, name) >= 1, name, "1 or more")
        for name in ("deadline", "body_timeout", "drain"):
            value = getattr(self, name)
            self.require(math.isfinite(value) and value > 0, name, "above 0 seconds")

    def require(self, fulfilled: bool, name: str, wanted: str) -> None:
        """Raises InputError for a setting that cannot be used."""
        if not fulfilled:
            raise InputError(f"{name} is {getattr(self, name)!r}; it must be {wanted}.")


COUNTS = (
    "workers",
    "max_concurrent_requests",
    "max_queue_tokens",
    "max_batch_tokens",
    "max_client_batch_size",
    "max_body_bytes",
    "max_characters",
    "tokenization_workers",
)
"""The settings that count something."""
