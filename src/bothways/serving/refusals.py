"""Why a request gets no answer: a status, the word that clients of Text Embeddings Inference know it by, a sentence."""

from __future__ import annotations

import math
from typing import Any, ClassVar


class Refused(Exception):
    """A request that is not answered; the message is one sentence for whoever sent it, and holds none of its texts."""

    status: ClassVar[int] = 422
    error_type: ClassVar[str] = "Validation"

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        return {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": str(self), "error_type": self.error_type}


class Invalid(Refused):
    """It asks for what cannot be."""


class Empty(Refused):
    """There is nothing to read."""

    status, error_type = 400, "Empty"


class TooSlow(Refused):
    """It did not arrive in time."""

    status = 408

    @property
    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


class TooLarge(Refused):
    """It has too many bytes."""

    status = 413

    @property
    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


class UnknownModel(Refused):
    """There is no model of that name."""

    status = 404


class Unauthorized(Refused):
    """The key is missing or wrong."""

    status, error_type = 401, "Unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class Forbidden(Refused):
    """The server does not do this."""

    status, error_type = 403, "Unauthorized"


class BackendFailed(Refused):
    """The model cannot answer this."""

    status, error_type = 424, "Backend"


class Overloaded(Refused):
    """There is too much to do."""

    status, error_type = 429, "Overloaded"

    def __init__(self, sentence: str, retry_after: float = 1.0) -> None:
        """`retry_after`: seconds after which it is worth another try."""
        super().__init__(sentence)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(max(1, math.ceil(self.retry_after)))}


class Unhealthy(Refused):
    """The server is not ready, or is about to stop."""

    status, error_type = 503, "Unhealthy"
