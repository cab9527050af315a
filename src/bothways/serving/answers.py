"""What the routes send: JSON whose numbers are finite, with headers that say what the answer has cost."""

from __future__ import annotations

import json
from typing import Any

import torch
from starlette.responses import Response

from bothways.serving.service import Request

COMPUTE_TYPE = "gpu+optimized" if torch.cuda.is_available() else "cpu+optimized"


class Answer(Response):
    """JSON in UTF-8; half a surrogate pair, which that cannot write, is written as an escape."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        written = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return written.encode("utf-8", "backslashreplace")


def answer_to(request: Request, content: Any) -> Answer:
    """The answer to a request that was computed."""
    return Answer(content, headers={"x-compute-type": COMPUTE_TYPE, **request.headers})


def usage(request: Request, **more: Any) -> dict[str, Any]:
    """How OpenAI's dialect counts tokens."""
    return {"prompt_tokens": request.tokens, "total_tokens": request.tokens, **more}
